import { adamwStep } from "../src/kernels/adamw.ts";
import { full, ones, zeros } from "../src/tensor/create.ts";
import { type BenchCase, bench } from "./harness.ts";

const SIZES = [1_000_000, 10_000_000];

function adamwCase(n: number): BenchCase {
  return {
    name: `f32 [${n}] step`,
    setup: () => {
      const tensors = {
        parameter: ones([n]),
        gradient: full([n], 0.5),
        m: zeros([n]),
        v: zeros([n]),
        clip: ones([1]),
      };
      const numbers = { lr: 1e-3, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0.01 };
      const run = () => adamwStep(tensors, { ...numbers, step: 1 });
      const verify = async () => {
        run();
        // The first step moves by lr against the gradient's sign, after the decay.
        const got = (await tensors.parameter.data())[n - 1]!;
        const expected = 1 - 1e-5 - 1e-3;
        if (!(Math.abs(got - expected) < 1e-6)) throw new Error(`${got} is not ${expected}`);
      };
      return { run, bytes: 7 * 4 * n, verify };
    },
  };
}

bench("adamw", SIZES.map(adamwCase));
