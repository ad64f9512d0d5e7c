import { rmsNorm } from "../../src/autograd/ops/rms_norm.ts";
import { zeros } from "../../src/tensor/create.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/rms_norm.ts";

gpuTest("rms_norm: forward and both gradients against float64", async () => {
  for (const D of [1, 2, 3, 63, 64, 65, 257]) {
    for (const lead of [[], [1], [5], [2, 17]]) {
      const shape = [...lead, D];
      await checkBothPaths({
        name: `rms_norm [${shape}]`,
        run: (x, w) => rmsNorm(x!, w!, 1e-5),
        inputs: [{ shape }, { shape: [D] }],
        forward: (x, w) => reference.rmsNorm(x!, shape, w!, 1e-5),
        backward: (dy, x, w) => reference.rmsNormBackward(dy, x!, shape, w!, 1e-5),
        K: D * 34,
      });
    }
  }
});

gpuTest("rms_norm: many rows, a frozen weight, nothing at all", async () => {
  await checkBothPaths({
    name: "rms_norm [300, 8]",
    run: (x, w) => rmsNorm(x!, w!),
    inputs: [{ shape: [300, 8] }, { shape: [8], grad: false }],
    forward: (x, w) => reference.rmsNorm(x!, [300, 8], w!, 1e-6),
    backward: (dy, x, w) => [reference.rmsNormBackward(dy, x!, [300, 8], w!, 1e-6)[0], null],
    K: 300,
  });
  await checkBothPaths({
    name: "rms_norm [0, 4]",
    run: (x, w) => rmsNorm(x!, w!),
    inputs: [{ shape: [0, 4] }, { shape: [4], grad: false }],
    forward: () => [],
  });
});

gpuTest("rms_norm: large and tiny rows stay finite", async () => {
  for (const scale of [1e-4, 1e4]) {
    const values = randomValues(3 * 9, 3, scale);
    await checkBothPaths({
      name: `rms_norm of numbers of size ${scale}`,
      run: (x, w) => rmsNorm(x!, w!, 1e-5),
      inputs: [
        { shape: [3, 9], values, grad: false },
        { shape: [9], grad: false },
      ],
      forward: (x, w) => reference.rmsNorm(x!, [3, 9], w!, 1e-5),
      K: 9,
    });
  }
});

gpuTest("rms_norm: errors", () => {
  const x = zeros([2, 3]);
  throwsLike(
    () => rmsNorm(x, zeros([2])),
    "ShapeError",
    "rms_norm: weight must be [D] = [3], got [2]",
  );
  throwsLike(
    () => rmsNorm(zeros([2, 3], "i32"), zeros([3])),
    "DTypeError",
    "rms_norm: x must be f32",
  );
  throwsLike(
    () => rmsNorm(zeros([]), zeros([1])),
    "ShapeError",
    "rms_norm: x must be [..., D], got []",
  );
});

runTests();
