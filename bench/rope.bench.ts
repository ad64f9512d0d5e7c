import { rope } from "../src/autograd/ops/rope.ts";
import { ropeTables } from "../src/kernels/rope.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [8, 512, 16, 64];

bench("rope", [
  {
    name: `f32 [${SHAPE}] forward`,
    setup: () => {
      const [x, { cos, sin }] = [noise(SHAPE), ropeTables(512, 64)];
      const run = () => rope(x, cos, sin);
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
]);
