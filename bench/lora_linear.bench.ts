import { backward } from "../src/autograd/backward.ts";
import {
  add,
  dropout,
  linear,
  loraLinear,
  loraLinearEach,
  matmul,
  mul,
} from "../src/autograd/ops/index.ts";
import { AdamW } from "../src/nn/optim/index.ts";
import { parameter, randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const [N, K, M] = [512, 768, 768];
const BASE_FLOPS = 4 * N * K * M; // forward and dx

type Inputs = { x: Tensor; W: Tensor; A: Tensor; B: Tensor; dy: Tensor };

/** Forward and backward of x, A and B, with W frozen. */
function both(name: string, r: number, forward: (t: Inputs) => Tensor, beside?: string) {
  const sizes = `forward + backward ${N}×${K}×${M}`;
  return {
    name: `${name}, ${sizes}`,
    ...(beside === undefined ? {} : { beside: `${beside}, ${sizes}` }),
    setup: () => {
      const x = parameter(randn([N, K]));
      const [A, B] = [parameter(randn([Math.max(r, 1), K])), parameter(randn([M, Math.max(r, 1)]))];
      const t: Inputs = { x, W: randn([M, K]), A, B, dy: randn([N, M]) };
      const run = () => {
        backward(forward(t), { gradient: t.dy });
        for (const p of [x, A, B]) {
          p.grad?.dispose();
          p.grad = null;
        }
      };
      return {
        run,
        flops: BASE_FLOPS + 6 * N * r * (K + M),
        verify: () => looksAlive(forward(t)),
      };
    },
  };
}

/** Three layers on one input, as queries, keys and values: their passes over it shared, or each by itself. */
function three(name: string, rows: number, width: number, dropout: number, isShared: boolean) {
  const r = 8;
  return {
    name: `q, k, v ${name}, forward + backward ${rows}×${width}×${width}, r ${r}, dropout ${dropout}`,
    setup: () => {
      const x = parameter(randn([rows, width]));
      const layers = [0, 1, 2].map(() => ({
        ...{ weight: randn([width, width]), bias: null, scale: 2, dropout },
        ...{ a: parameter(randn([r, width])), b: parameter(randn([width, r])) },
      }));
      const dy = randn([rows, width]);
      const optimizer = new AdamW(layers.flatMap(({ a, b }) => [a, b])); // packs them side by side
      const forward = () =>
        isShared
          ? loraLinearEach(x, layers)
          : layers.map(({ weight, bias, a, b, ...options }) =>
              loraLinear(x, weight, bias, a, b, options),
            );
      const run = () => {
        const [q, k, v] = forward() as [Tensor, Tensor, Tensor];
        backward(add(add(q, k), v), { gradient: dy });
        x.grad?.dispose();
        x.grad = null;
        optimizer.zeroGrad();
      };
      const flops = 3 * (4 * rows * width * width + 12 * rows * r * width);
      return { run, flops, verify: () => looksAlive(forward()[2]!) };
    },
  };
}

const FROZEN = "frozen base alone";

const fused = ({ x, W, A, B }: Inputs, p: number): Tensor =>
  loraLinear(x, W, null, A, B, { scale: 2, dropout: p });

function plain({ x, W, A, B }: Inputs, p: number): Tensor {
  const S = matmul(dropout(x, p), A, { transposeB: true });
  return add(linear(x, W), mul(matmul(S, B, { transposeB: true }), 2));
}

bench("lora_linear", [
  ...[
    [512, 768],
    [1024, 256],
  ].flatMap(([rows, width]) =>
    [0, 0.1].flatMap((dropout) => [
      three("shared", rows!, width!, dropout, true),
      three("apart", rows!, width!, dropout, false),
    ]),
  ),
  both(FROZEN, 0, ({ x, W }) => linear(x, W)),
  ...[8, 16, 64].flatMap((r) => [
    both(`r ${r}`, r, (t) => fused(t, 0), FROZEN),
    both(`r ${r}, dropout 0.1`, r, (t) => fused(t, 0.1), `r ${r}`),
    both(`r ${r}, plain ops`, r, (t) => plain(t, 0), `r ${r}`),
    both(`r ${r}, plain ops, dropout 0.1`, r, (t) => plain(t, 0.1), `r ${r}, dropout 0.1`),
  ]),
]);
