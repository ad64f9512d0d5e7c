import { adamwStep } from "../src/kernels/adamw.ts";
import { gradNorm } from "../src/kernels/clip_grad_norm.ts";
import { sgdStep } from "../src/kernels/sgd.ts";
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

function normCase(n: number): BenchCase {
  return {
    name: `f32 [${n}]`,
    setup: () => {
      const gradient = full([n], 2);
      const verify = async () => {
        const got = await gradNorm([gradient], 1).norm.item();
        const expected = 2 * Math.sqrt(n);
        if (!(Math.abs(got / expected - 1) < 1e-6)) throw new Error(`${got} is not ${expected}`);
      };
      return { run: () => gradNorm([gradient], 1), bytes: 4 * n, verify };
    },
  };
}

bench("adamw", SIZES.map(adamwCase));
bench("sgd", SIZES.map(sgdCase));
bench("clip_grad_norm", SIZES.map(normCase));
