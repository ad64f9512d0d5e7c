import { layerNorm } from "../../src/autograd/ops/layer_norm.ts";
import { zeros } from "../../src/tensor/create.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/layer_norm.ts";

gpuTest("layer_norm: forward and all gradients against float64", async () => {
  for (const D of [2, 3, 63, 64, 65, 257]) {
    for (const lead of [[], [1], [5], [2, 17]]) {
      const shape = [...lead, D];
      await checkBothPaths({
        name: `layer_norm [${shape}]`,
        run: (x, w, b) => layerNorm(x!, w!, b!, 1e-2),
        inputs: [{ shape }, { shape: [D] }, { shape: [D] }],
        forward: (x, w, b) => reference.layerNorm(x!, shape, w!, b!, 1e-2),
        backward: (dy, x, w) => reference.layerNormBackward(dy, x!, shape, w!, 1e-2),
        K: D * 34,
      });
    }
  }
});

gpuTest("layer_norm: large rows stay finite", async () => {
  const values = randomValues(27, 3, 1e4);
  await checkBothPaths({
    name: "layer_norm of numbers of size 1e4",
    run: (x, w, b) => layerNorm(x!, w!, b!),
    inputs: [
      { shape: [3, 9], values, grad: false },
      { shape: [9], grad: false },
      { shape: [9], grad: false },
    ],
    forward: (x, w, b) => reference.layerNorm(x!, [3, 9], w!, b!, 1e-5),
    K: 9,
  });
});

gpuTest("layer_norm: errors", () => {
  const [x, w] = [zeros([2, 3]), zeros([3])];
  throwsLike(
    () => layerNorm(x, zeros([2]), w),
    "ShapeError",
    "layer_norm: weight must be [D] = [3]",
  );
  throwsLike(() => layerNorm(x, w, zeros([2])), "ShapeError", "layer_norm: bias must be [D] = [3]");
  throwsLike(
    () => layerNorm(zeros([2, 3], "i32"), w, w),
    "DTypeError",
    "layer_norm: x must be f32",
  );
});

runTests();
