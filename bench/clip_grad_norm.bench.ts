import { gradNorm } from "../src/kernels/clip_grad_norm.ts";
import { full } from "../src/tensor/create.ts";
import { type BenchCase, bench } from "./harness.ts";

const SIZES = [1_000_000, 10_000_000];

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

bench("clip_grad_norm", SIZES.map(normCase));
