import { logSoftmax, softmax } from "../src/autograd/ops/index.ts";
import { softmaxBackward } from "../src/kernels/softmax.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { type BenchCase, bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [16384, 1024];

function forwardCase(name: string, run: (x: Tensor) => Tensor): BenchCase {
  return {
    name: `f32 [${SHAPE}] ${name}`,
    setup: () => {
      const x = noise(SHAPE);
      return { run: () => run(x), bytes: 2 * x.bytes, verify: () => looksAlive(run(x)) };
    },
  };
}

bench("softmax", [
  forwardCase("forward", (x) => softmax(x)),
  forwardCase("logarithm forward", (x) => logSoftmax(x)),
  {
    name: `f32 [${SHAPE}] backward`,
    setup: () => {
      const dy = noise(SHAPE);
      const y = softmax(dy);
      const run = () => softmaxBackward(dy, y, -1, false);
      return { run, bytes: 3 * y.bytes, verify: () => looksAlive(run()) };
    },
  },
]);
