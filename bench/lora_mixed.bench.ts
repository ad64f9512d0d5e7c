import { backward } from "../src/autograd/backward.ts";
import { detach } from "../src/autograd/grad.ts";
import { noGrad } from "../src/autograd/graph.ts";
import { linear, loraLinear, loraMixed } from "../src/autograd/ops/index.ts";
import { MixedStack } from "../src/kernels/lora_mixed_stack.ts";
import { parameter, randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const [ADAPTERS, T, K, N, R] = [8, 64, 768, 768, 8];
const SIZES = `${ADAPTERS} adapters of r ${R}, ${ADAPTERS}×${T}×${K}×${N}`;

interface Inputs {
  x: Tensor;
  parts: Tensor[];
  W: Tensor;
  As: Tensor[];
  Bs: Tensor[];
}

/** Forward and backward of x, A's and B's; every adapter has one sequence. */
function both(name: string, forward: (t: Inputs) => Tensor[]) {
  return {
    name: `${name}, forward + backward, ${SIZES}`,
    setup: () => {
      const each = <V>(make: () => V) => Array.from({ length: ADAPTERS }, make);
      const t: Inputs = {
        x: parameter(randn([ADAPTERS, T, K])),
        parts: each(() => parameter(randn([1, T, K]))),
        W: randn([N, K]),
        As: each(() => parameter(randn([R, K]))),
        Bs: each(() => parameter(randn([N, R]))),
      };
      const run = () => {
        for (const y of forward(t)) backward(y, { gradient: detach(y) });
        for (const p of [t.x, ...t.parts, ...t.As, ...t.Bs]) {
          p.grad?.dispose();
          p.grad = null;
        }
      };
      const flops = ADAPTERS * T * (4 * K * N + 6 * R * (K + N));
      return { run, flops, verify: () => looksAlive(forward(t)[0]!) };
    },
  };
}

const plan = {
  transposed: false,
  terms: Array.from({ length: ADAPTERS }, () => ({ scale: 2, p: 0, key: [0, 0] as const })),
  rows: Array.from({ length: ADAPTERS }, (_, i) => [i]),
};

/** A token of each sequence without gradients, as in generation: what is the same in each call is kept, or made anew. */
function token(isKept: boolean) {
  const shown = `${ADAPTERS} adapters of r ${R}, ${ADAPTERS}×1×${K}×${N}`;
  return {
    name: `${isKept ? "kept factors" : "packed in each call"}, forward of one token, ${shown}`,
    setup: () => {
      const [x, W] = [randn([ADAPTERS, 1, K]), randn([N, K])];
      const As = Array.from({ length: ADAPTERS }, () => randn([R, K]));
      const Bs = As.map(() => randn([N, R]));
      const given = isKept ? { ...plan, stack: new MixedStack() } : plan;
      return { run: () => noGrad(() => loraMixed(x, W, null, As, Bs, given)) };
    },
  };
}

bench("lora_mixed", [
  token(true),
  token(false),
  both("in one batch", ({ x, W, As, Bs }) => [loraMixed(x, W, null, As, Bs, plan)]),
  both("one after the other", ({ parts, W, As, Bs }) =>
    parts.map((x, i) => loraLinear(x, W, null, As[i]!, Bs[i]!, { scale: 2 })),
  ),
  both("the base alone", ({ x, W }) => [linear(x, W)]),
]);
