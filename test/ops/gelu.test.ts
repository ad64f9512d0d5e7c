import { gelu } from "../../src/autograd/ops/gelu.ts";
import type { GeluForm } from "../../src/kernels/gelu.ts";
import { zeros } from "../../src/tensor/create.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/gelu.ts";

for (const form of ["none", "tanh"] as GeluForm[]) {
  gpuTest(`gelu ${form}: forward and backward against float64`, async () => {
    for (const shape of [[], [1], [3, 7], [64], [65], [2, 3, 129], [0, 4]]) {
      const n = shape.reduce((a, b) => a * b, 1);
      await checkBothPaths({
        name: `gelu ${form} [${shape}]`,
        run: (x) => gelu(x!, form),
        inputs: [{ shape, values: randomValues(n, 7, 6) }],
        forward: (x) => reference.gelu(x!, form),
        backward: (dy, x) => [reference.geluBackward(dy, x!, form)],
      });
    }
  });
}

gpuTest("gelu: saturates without NaN", async () => {
  await checkBothPaths({
    name: "gelu far out",
    run: (x) => gelu(x!, "tanh"),
    inputs: [{ shape: [4], values: [-1e4, -30, 30, 1e4] }],
    forward: (x) => reference.gelu(x!, "tanh"),
    backward: (dy, x) => [reference.geluBackward(dy, x!, "tanh")],
  });
});

gpuTest("gelu: refuses integers", () => {
  throwsLike(() => gelu(zeros([2], "i32")), "DTypeError", "gelu: x must be f32, got i32", "cast");
});

runTests();
