import { permute, slice } from "../src/autograd/ops/index.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

bench("copy", [
  {
    name: "f32 [4096, 4096] transpose",
    setup: () => {
      const x = noise([4096, 4096]);
      const run = () => permute(x, [1, 0]);
      return { run, bytes: 2 * x.bytes, verify: () => looksAlive(run()) };
    },
  },
  {
    name: "f32 [8192, 2048] slice of columns",
    setup: () => {
      const x = noise([8192, 2048]);
      const run = () => slice(x, 1, 512, 1536);
      return { run, bytes: x.bytes, verify: () => looksAlive(run()) };
    },
  },
]);
