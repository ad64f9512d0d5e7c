import { swiglu } from "../src/autograd/ops/swiglu.ts";
import { swigluBackward } from "../src/kernels/swiglu.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [4096, 3072];

bench("swiglu", [
  {
    name: `f32 [${SHAPE}] forward`,
    setup: () => {
      const [gate, up] = [noise(SHAPE), noise(SHAPE)];
      const run = () => swiglu(gate, up);
      return { run, bytes: 3 * up.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] backward`,
    setup: () => {
      const [gate, up, dy] = [noise(SHAPE), noise(SHAPE), noise(SHAPE)];
      const run = () => swigluBackward(dy, gate, up);
      return { run, bytes: 5 * up.bytes, verify: () => looksAlive(run()[0]) };
    },
  },
]);
