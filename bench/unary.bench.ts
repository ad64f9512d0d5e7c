import { exp, relu } from "../src/autograd/ops/index.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { type BenchCase, bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

function unaryCase(name: string, run: (x: Tensor) => Tensor): BenchCase {
  return {
    name: `f32 [16M] ${name}`,
    setup: () => {
      const x = noise([2 ** 24]);
      return { run: () => run(x), bytes: 2 * x.bytes, verify: () => looksAlive(run(x)) };
    },
  };
}

bench("unary", [unaryCase("relu", relu), unaryCase("exp", exp)]);
