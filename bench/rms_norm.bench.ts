import { rmsNorm } from "../src/autograd/ops/index.ts";
import { rmsNormBackward, rmsNormBackwardWeight, rmsNormForward } from "../src/kernels/rms_norm.ts";
import { ones, randn } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [16384, 1024];

bench("rms_norm", [
  {
    name: `f32 [${SHAPE}] forward`,
    setup: () => {
      const [x, w] = [noise(SHAPE), ones([1024])];
      const run = () => rmsNorm(x, w);
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] backward of x`,
    setup: () => {
      const [x, dy, w] = [noise(SHAPE), noise(SHAPE), randn([1024])];
      const { r } = rmsNormForward(x, w, 1e-5);
      const run = () => rmsNormBackward(dy, x, w, r);
      return { run, bytes: 3 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] backward of x and weight`,
    setup: () => {
      const [x, dy, w] = [noise(SHAPE), noise(SHAPE), randn([1024])];
      const { r } = rmsNormForward(x, w, 1e-5);
      const run = () => {
        rmsNormBackward(dy, x, w, r);
        rmsNormBackwardWeight(dy, x, r);
      };
      return { run, bytes: 3 * x.bytes };
    },
  },
]);
