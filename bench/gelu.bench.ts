import { gelu } from "../src/autograd/ops/gelu.ts";
import { geluBackward, geluBiasBackward } from "../src/kernels/gelu.ts";
import { foldForward } from "../src/kernels/reduce.ts";
import { randn } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const [ROWS, D] = [4096, 3072];
const SHAPE = [ROWS, D];

bench("gelu", [
  {
    name: `f32 [${SHAPE}] tanh forward`,
    setup: () => {
      const x = noise(SHAPE);
      const run = () => gelu(x, "tanh");
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] tanh forward with a bias`,
    setup: () => {
      const [x, bias] = [noise(SHAPE), randn([D])];
      const run = () => gelu(x, "tanh", bias);
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] tanh backward`,
    setup: () => {
      const [x, dy] = [noise(SHAPE), noise(SHAPE)];
      return { run: () => geluBackward(dy, x, "tanh"), bytes: 3 * x.bytes };
    },
  },
  {
    name: `f32 [${SHAPE}] tanh backward, then the sum of its columns`,
    setup: () => {
      const [x, dy] = [noise(SHAPE), noise(SHAPE)];
      const fold = { outer: 1, R: ROWS, inner: D };
      const run = () => foldForward("gelu", "sum", geluBackward(dy, x, "tanh"), fold, [D]);
      return { run, bytes: 3 * x.bytes };
    },
  },
  {
    name: `f32 [${SHAPE}] tanh backward with a bias`,
    setup: () => {
      const [x, dy, bias] = [noise(SHAPE), noise(SHAPE), randn([D])];
      const run = () => geluBiasBackward(dy, x, "tanh", bias, true);
      return { run, bytes: 3 * x.bytes, verify: () => looksAlive(run().dx) };
    },
  },
]);
