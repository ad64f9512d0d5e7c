import { accumulate } from "../src/kernels/accumulate.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [4096, 3072];

bench("accumulate", [
  {
    name: `f32 [${SHAPE}]`,
    setup: () => {
      const [total, x] = [noise(SHAPE), noise(SHAPE)];
      const run = () => accumulate(total, x);
      return { run, bytes: 3 * x.bytes, verify: () => looksAlive(total) };
    },
  },
]);
