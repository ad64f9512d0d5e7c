import { equal } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { concat } from "../../src/autograd/ops/concat.ts";
import { layerNorm, layerNormAdd } from "../../src/autograd/ops/layer_norm.ts";
import { ones, parameter, tensor, zeros } from "../../src/tensor/create.ts";
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

/** x + r. */
const sumOf = (x: Float64Array, r: Float64Array) => x.map((v, i) => v + r[i]!);

gpuTest("layer_norm_add: both results and all gradients, together and alone", async () => {
  for (const D of [1, 3, 64, 65, 130]) {
    for (const lead of [[], [5], [2, 33]]) {
      const shape = [...lead, D];
      const all = { inputs: [{ shape }, { shape }, { shape: [D] }, { shape: [D] }], K: D * 66 };
      const y = (x: Float64Array, r: Float64Array, w: Float64Array, b: Float64Array) =>
        reference.layerNorm(sumOf(x, r), shape, w, b, 1e-2);
      await checkBothPaths({
        ...all,
        name: `layer_norm_add [${shape}], the sum and its norm`,
        run: (x, r, w, b) => concat([...layerNormAdd(x!, r!, w!, b!, 1e-2)], 0),
        forward: (x, r, w, b) => [...sumOf(x!, r!), ...y(x!, r!, w!, b!)],
        backward: (dy, x, r, w) => {
          const n = x!.length;
          const [dx, ...rest] = reference.layerNormBackward(
            dy.slice(n),
            sumOf(x!, r!),
            shape,
            w!,
            1e-2,
          );
          const dh = dx.map((v, i) => v + dy[i]!);
          return [dh, dh, ...rest];
        },
      });
      await checkBothPaths({
        ...all,
        name: `layer_norm_add [${shape}], the norm alone`,
        run: (x, r, w, b) => layerNormAdd(x!, r!, w!, b!, 1e-2)[1],
        forward: (x, r, w, b) => y(x!, r!, w!, b!),
        backward: (dy, x, r, w) => {
          const [dx, ...rest] = reference.layerNormBackward(dy, sumOf(x!, r!), shape, w!, 1e-2);
          return [dx, dx, ...rest];
        },
      });
      await checkBothPaths({
        ...all,
        name: `layer_norm_add [${shape}], the sum alone`,
        run: (x, r, w, b) => layerNormAdd(x!, r!, w!, b!, 1e-2)[0],
        forward: (x, r) => sumOf(x!, r!),
        backward: (dy) => [dy, dy, null, null],
      });
    }
  }
});

gpuTest("layer_norm_add: one gradient is wanted, or none is", async () => {
  const inputs = [1, 2].map((seed) => tensor(randomValues(24, seed), [3, 8]));
  const weights = [ones([8]), zeros([8])] as const;
  const r = parameter(tensor(randomValues(24, 2), [3, 8]));
  const dy = tensor(randomValues(24, 3), [3, 8]);
  backward(layerNormAdd(inputs[0]!, r, ...weights)[1], { gradient: dy });
  const x = parameter(tensor(randomValues(24, 1), [3, 8]));
  backward(layerNormAdd(x, inputs[1]!, ...weights)[1], { gradient: dy });
  equal(await x.grad!.data(), await r.grad!.data());
  equal(layerNormAdd(inputs[0]!, inputs[1]!, ...weights)[1].requiresGrad, false);
  for (const t of [x, r]) {
    t.grad!.dispose();
    t.dispose();
  }
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
  throwsLike(
    () => layerNormAdd(zeros([2, 3]), zeros([3]), zeros([3]), zeros([3])),
    "ShapeError",
    "layer_norm_add: residual must be [2, 3], got [3]",
  );
  throwsLike(
    () => layerNormAdd(zeros([2, 3]), zeros([2, 3], "i32"), zeros([3]), zeros([3])),
    "DTypeError",
    "layer_norm_add: residual must be f32, got i32",
  );
});

runTests();
