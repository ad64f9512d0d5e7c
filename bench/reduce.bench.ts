import { max, sum } from "../src/autograd/ops/index.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { type BenchCase, bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

function reduceCase(name: string, shape: number[], run: (x: Tensor) => Tensor): BenchCase {
  return {
    name: `f32 ${name}`,
    setup: () => {
      const x = noise(shape);
      return { run: () => run(x), bytes: x.bytes, verify: () => looksAlive(run(x)) };
    },
  };
}

bench("reduce", [
  reduceCase("[16M] sum", [2 ** 24], (x) => sum(x)),
  reduceCase("[16M] max", [2 ** 24], (x) => max(x)),
  reduceCase("[16384, 1024] sum of rows", [16384, 1024], (x) => sum(x, 1)),
  reduceCase("[16384, 1024] sum of columns", [16384, 1024], (x) => sum(x, 0)),
  reduceCase("[1024, 768] sum of columns", [1024, 768], (x) => sum(x, 0)),
]);
