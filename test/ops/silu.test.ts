import { silu } from "../../src/autograd/ops/silu.ts";
import { zeros } from "../../src/tensor/create.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/silu.ts";

gpuTest("silu: forward and gradient against float64, far out too", async () => {
  for (const shape of [[], [1], [3, 7], [65], [2, 3, 129], [0, 4]]) {
    for (const scale of [6, 1e4]) {
      await checkBothPaths({
        name: `silu [${shape}] of size ${scale}`,
        run: (x) => silu(x!),
        inputs: [
          {
            shape,
            values: randomValues(
              shape.reduce((a, b) => a * b, 1),
              7,
              scale,
            ),
          },
        ],
        forward: (x) => reference.silu(x!),
        backward: (dy, x) => [reference.siluBackward(dy, x!)],
      });
    }
  }
});

gpuTest("silu: errors", () => {
  throwsLike(() => silu(zeros([2], "i32")), "DTypeError", "silu: x must be f32, got i32", "cast");
});

runTests();
