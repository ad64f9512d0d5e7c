import { matmulForward } from "../src/kernels/matmul.ts";
import { randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { equalsDot } from "./verify.ts";

const SHAPES = [
  [512, 768, 768],
  [512, 768, 3072],
  [512, 3072, 768],
  [512, 128, 352],
  [512, 768, 16],
  [16, 512, 768],
  [1, 768, 768],
] as const;

bench(
  "matmul",
  SHAPES.flatMap(([M, K, N]) =>
    (["NN", "NT", "TN"] as const).map((layout) => ({
      name: `${layout} ${M}×${K}×${N}`,
      setup: () => {
        const [transposeA, transposeB] = [layout === "TN", layout === "NT"];
        const a = randn(transposeA ? [K, M] : [M, K]);
        const b = randn(transposeB ? [N, K] : [K, N]);
        const run = (): Tensor => matmulForward(a, b, { transposeA, transposeB });
        return {
          run,
          flops: 2 * M * N * K,
          bytes: 4 * (M * K + K * N + M * N),
          verify: async () => {
            const left = (k: number) => (transposeA ? k * M : k);
            const right = (k: number) => (transposeB ? k : k * N);
            await equalsDot(run(), a, b, K, left, right);
          },
        };
      },
    })),
  ),
);
