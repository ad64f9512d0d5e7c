import { gt } from "../src/autograd/ops/index.ts";
import { where } from "../src/autograd/ops/where.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [4096, 3072];

bench("where", [
  {
    name: `f32 [${SHAPE}] forward`,
    setup: () => {
      const x = noise(SHAPE);
      const mask = gt(x, 0);
      const run = () => where(mask, x, 0);
      return { run, bytes: 3 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
]);
