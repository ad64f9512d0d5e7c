import { add, gt, mul } from "../src/autograd/ops/index.ts";
import { randn } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const N = 2 ** 24;

bench("binary", [
  {
    name: "f32 [16M] add",
    setup: () => {
      const [a, b] = [noise([N]), noise([N])];
      return { run: () => add(a, b), bytes: 12 * N, verify: () => looksAlive(add(a, b)) };
    },
  },
  {
    name: "f32 [16M] mul by a number",
    setup: () => {
      const a = noise([N]);
      return { run: () => mul(a, 0.5), bytes: 8 * N, verify: () => looksAlive(mul(a, 0.5)) };
    },
  },
  {
    name: "f32 [16384, 1024] add [1024]",
    setup: () => {
      const [a, b] = [noise([16384, 1024]), randn([1024])];
      return { run: () => add(a, b), bytes: 8 * N, verify: () => looksAlive(add(a, b)) };
    },
  },
  {
    name: "f32 [16M] gt",
    setup: () => {
      const [a, b] = [noise([N]), noise([N])];
      return { run: () => gt(a, b), bytes: 12 * N };
    },
  },
]);
