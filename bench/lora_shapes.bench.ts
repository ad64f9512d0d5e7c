// Skinny shapes: what a low-rank update costs beside its layer, forward, for N tokens, square layers and every rank.
import { add, linear, loraLinear, matmul, mul } from "../src/autograd/ops/index.ts";
import { randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { difference } from "./peers/verify.ts";

const TOKENS = [128, 512, 2048];
const WIDTHS = [256, 768];
const RANKS = [4, 8, 16, 64];
const SCALE = 2;

interface Sizes {
  N: number;
  D: number;
  r: number;
}

interface Inputs {
  x: Tensor;
  W: Tensor;
  A: Tensor;
  B: Tensor;
}

const fused = ({ x, W, A, B }: Inputs): Tensor => loraLinear(x, W, null, A, B, { scale: SCALE });

function unfused({ x, W, A, B }: Inputs): Tensor {
  const S = matmul(x, A, { transposeB: true });
  return add(linear(x, W), mul(matmul(S, B, { transposeB: true }), SCALE));
}

const merged = ({ x, W, A, B }: Inputs): Tensor => linear(x, add(W, mul(matmul(B, A), SCALE)));

/** Elements that a product [N, K]·[K, M] reads and writes. */
const product = (N: number, K: number, M: number): number => N * K + K * M + N * M;

/** Bytes that each form moves, if every operand is read once. */
const BYTES = {
  fused: ({ N, D, r }: Sizes) => 4 * (product(N, D, D) + 2 * D * r + 2 * N * r),
  // Two more products, and 2·N·D for the multiplication, 3·N·D for the sum.
  unfused: ({ N, D, r }: Sizes) =>
    4 * (product(N, D, D) + product(N, D, r) + product(N, r, D) + 5 * N * D),
  merged: ({ N, D }: Sizes) => 4 * product(N, D, D),
};

const baseFlops = ({ N, D }: Sizes): number => 2 * N * D * D;

/** One shape in one form; without a form, the layer alone: what is left after a merge. */
function shape(
  name: string,
  sizes: Sizes,
  forward: ((t: Inputs) => Tensor) | null,
  cost: { flops: number; bytes: number },
) {
  return {
    name,
    setup: () => {
      const { N, D, r } = sizes;
      const t: Inputs = { x: randn([N, D]), W: randn([D, D]), A: randn([r, D]), B: randn([D, r]) };
      const verify = async () => {
        if (!forward) return;
        const values = async (y: Tensor) => Float32Array.from(await y.data());
        const wrong = difference(await values(merged(t)), await values(forward(t)), 1e-3);
        if (wrong) throw new Error(wrong);
      };
      const run = () => (forward ? forward(t) : linear(t.x, t.W));
      return { run, ...cost, verify };
    },
    ...(forward ? { beside: `${place(sizes)}, merged` } : {}),
  };
}

const place = ({ N, D }: Sizes): string => `${N} tokens, width ${D}`;

bench(
  "lora_shapes",
  TOKENS.flatMap((N) =>
    WIDTHS.flatMap((D) => {
      const alone = { N, D, r: 1 };
      const where = place(alone);
      const cost = { flops: baseFlops(alone), bytes: BYTES.merged(alone) };
      return [
        shape(`${where}, merged`, alone, null, cost),
        ...RANKS.flatMap((r) => {
          const sizes = { N, D, r };
          const flops = baseFlops(sizes) + 4 * N * D * r;
          return [
            shape(`${where}, r ${r}, fused`, sizes, fused, { flops, bytes: BYTES.fused(sizes) }),
            shape(`${where}, r ${r}, unfused`, sizes, unfused, {
              flops,
              bytes: BYTES.unfused(sizes),
            }),
          ];
        }),
      ];
    }),
  ),
);
