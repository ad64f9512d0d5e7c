import { add, matmul, mul, sqrt, square, sum } from "../src/autograd/ops/index.ts";
import { doraNorm } from "../src/kernels/dora_norm.ts";
import { randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const [OUT, IN] = [3072, 768];
type Norm = (W: Tensor, A: Tensor, B: Tensor) => Tensor;

const row = (name: string, r: number, shape: [number, number], norm: Norm) => ({
  name: `${name} [${shape.join(", ")}], r ${r}`,
  setup: () => {
    const [W, A, B] = [randn(shape), randn([r, IN]), randn([OUT, r])];
    const run = () => norm(W, A, B);
    const verify = () => looksAlive(run());
    return { run, flops: 2 * W.size * (r + 1), bytes: 4 * W.size, verify };
  },
});

bench(
  "dora_norm",
  [8, 64].flatMap((r) => [
    row("f32", r, [OUT, IN], (W, A, B) => doraNorm(W, A, B, 0.5)),
    row("f32 transposed", r, [IN, OUT], (W, A, B) => doraNorm(W, A, B, 0.5, { transposed: true })),
    row("f32, plain ops", r, [OUT, IN], (W, A, B) =>
      sqrt(sum(square(add(W, mul(matmul(B, A), 0.5))), [1])),
    ),
  ]),
);
