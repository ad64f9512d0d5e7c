import { backward } from "../src/autograd/backward.ts";
import { crossEntropy, linear, linearCrossEntropy } from "../src/autograd/ops/index.ts";
import { parameter, randn, tensor } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

type Loss = (x: Tensor, W: Tensor, targets: Tensor) => Tensor;

const chunked: Loss = (x, W, targets) => linearCrossEntropy(x, W, null, targets);
const whole: Loss = (x, W, targets) => crossEntropy(linear(x, W), targets);

/** Forward and backward of x, with W frozen. */
function both(name: string, loss: Loss, N: number, d: number, V: number) {
  return {
    name: `${name}, forward + backward ${N}×${d}×${V}`,
    setup: () => {
      const x = parameter(randn([N, d]));
      const W = randn([V, d], 0, 0.05);
      const targets = tensor(Int32Array.from({ length: N }, (_, i) => (i * 37) % V));
      const run = () => {
        backward(loss(x, W, targets));
        x.grad?.dispose();
        x.grad = null;
      };
      return { run, flops: 4 * N * d * V, verify: () => looksAlive(loss(x, W, targets)) };
    },
  };
}

bench("linear_cross_entropy", [
  both("in chunks", chunked, 1024, 256, 512),
  both("logits whole", whole, 1024, 256, 512),
  both("in chunks", chunked, 512, 768, 8192),
  both("logits whole", whole, 512, 768, 8192),
]);
