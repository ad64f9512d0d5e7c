import { cast } from "../src/autograd/ops/cast.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const SHAPE = [4096, 3072];

bench(
  "cast",
  (["f16", "bf16"] as const).flatMap((dtype) => [
    {
      name: `f32 to ${dtype} [${SHAPE}]`,
      setup: () => {
        const x = noise(SHAPE);
        const run = () => cast(x, dtype);
        return { run, bytes: 1.5 * x.bytes, verify: () => looksAlive(run()) };
      },
    },
    {
      name: `${dtype} to f32 [${SHAPE}]`,
      setup: () => {
        const x = cast(noise(SHAPE), dtype);
        const run = () => cast(x, "f32");
        return { run, bytes: 3 * x.bytes, verify: () => looksAlive(run()) };
      },
    },
  ]),
);
