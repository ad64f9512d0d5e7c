import { layerNorm } from "../src/autograd/ops/index.ts";
import {
  layerNormBackward,
  layerNormBackwardWeight,
  layerNormForward,
} from "../src/kernels/layer_norm.ts";
import { ones, randn } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [16384, 1024];

bench("layer_norm", [
  {
    name: `f32 [${SHAPE}] forward`,
    setup: () => {
      const [x, w, b] = [noise(SHAPE), ones([1024]), randn([1024])];
      const run = () => layerNorm(x, w, b);
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] backward of x`,
    setup: () => {
      const [x, dy, w, b] = [noise(SHAPE), noise(SHAPE), randn([1024]), randn([1024])];
      const { stats } = layerNormForward(x, w, b, 1e-5);
      const run = () => layerNormBackward(dy, x, w, stats);
      return { run, bytes: 3 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 [${SHAPE}] backward of x, weight and bias`,
    setup: () => {
      const [x, dy, w, b] = [noise(SHAPE), noise(SHAPE), randn([1024]), randn([1024])];
      const { stats } = layerNormForward(x, w, b, 1e-5);
      const run = () => {
        layerNormBackward(dy, x, w, stats);
        layerNormBackwardWeight(dy, x, stats);
      };
      return { run, bytes: 3 * x.bytes };
    },
  },
]);
