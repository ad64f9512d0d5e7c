import { sgdStep } from "../src/kernels/sgd.ts";
import { ones, zeros } from "../src/tensor/create.ts";
import { type BenchCase, bench } from "./harness.ts";

const SIZES = [1_000_000, 10_000_000];

function sgdCase(n: number): BenchCase {
  return {
    name: `f32 [${n}] step with momentum`,
    setup: () => {
      const tensors = {
        parameter: ones([n]),
        gradient: ones([n]),
        velocity: zeros([n]),
        clip: ones([1]),
      };
      const numbers = { lr: 1e-3, momentum: 0.9, nesterov: false, weightDecay: 0 };
      return { run: () => sgdStep(tensors, numbers), bytes: 5 * 4 * n };
    },
  };
}

bench("sgd", SIZES.map(sgdCase));
