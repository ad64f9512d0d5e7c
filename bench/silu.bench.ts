import { silu } from "../src/autograd/ops/silu.ts";
import { siluBackward } from "../src/kernels/silu.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [4096, 3072];

bench("silu", [
  {
    name: `f32 [${SHAPE}] forward`,
    setup: () => {
      const x = noise(SHAPE);
      const run = () => silu(x);
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] backward`,
    setup: () => {
      const [x, dy] = [noise(SHAPE), noise(SHAPE)];
      const run = () => siluBackward(dy, x);
      return { run, bytes: 3 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
]);
