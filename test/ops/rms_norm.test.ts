import { equal } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { concat } from "../../src/autograd/ops/concat.ts";
import { rmsNorm, rmsNormAdd } from "../../src/autograd/ops/rms_norm.ts";
import { ones, parameter, tensor, zeros } from "../../src/tensor/create.ts";
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

/** x + r. */
const sumOf = (x: Float64Array, r: Float64Array) => x.map((v, i) => v + r[i]!);

gpuTest("rms_norm_add: both results and all gradients, together and alone", async () => {
  for (const D of [1, 3, 64, 65, 130]) {
    for (const lead of [[], [5], [2, 33]]) {
      const shape = [...lead, D];
      const all = { inputs: [{ shape }, { shape }, { shape: [D] }], K: D * 66 };
      const y = (x: Float64Array, r: Float64Array, w: Float64Array) =>
        reference.rmsNorm(sumOf(x, r), shape, w, 1e-2);
      await checkBothPaths({
        ...all,
        name: `rms_norm_add [${shape}], the sum and its norm`,
        run: (x, r, w) => concat([...rmsNormAdd(x!, r!, w!, 1e-2)], 0),
        forward: (x, r, w) => [...sumOf(x!, r!), ...y(x!, r!, w!)],
        backward: (dy, x, r, w) => {
          const n = x!.length;
          const [dx, ...rest] = reference.rmsNormBackward(
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
        name: `rms_norm_add [${shape}], the norm alone`,
        run: (x, r, w) => rmsNormAdd(x!, r!, w!, 1e-2)[1],
        forward: (x, r, w) => y(x!, r!, w!),
        backward: (dy, x, r, w) => {
          const [dx, ...rest] = reference.rmsNormBackward(dy, sumOf(x!, r!), shape, w!, 1e-2);
          return [dx, dx, ...rest];
        },
      });
      await checkBothPaths({
        ...all,
        name: `rms_norm_add [${shape}], the sum alone`,
        run: (x, r, w) => rmsNormAdd(x!, r!, w!, 1e-2)[0],
        forward: (x, r) => sumOf(x!, r!),
        backward: (dy) => [dy, dy, null],
      });
    }
  }
});

gpuTest("rms_norm_add: one gradient is wanted, or none is", async () => {
  const inputs = [1, 2].map((seed) => tensor(randomValues(24, seed), [3, 8]));
  const weights = [ones([8])] as const;
  const r = parameter(tensor(randomValues(24, 2), [3, 8]));
  const dy = tensor(randomValues(24, 3), [3, 8]);
  backward(rmsNormAdd(inputs[0]!, r, ...weights)[1], { gradient: dy });
  const x = parameter(tensor(randomValues(24, 1), [3, 8]));
  backward(rmsNormAdd(x, inputs[1]!, ...weights)[1], { gradient: dy });
  equal(await x.grad!.data(), await r.grad!.data());
  equal(rmsNormAdd(inputs[0]!, inputs[1]!, ...weights)[1].requiresGrad, false);
  for (const t of [x, r]) {
    t.grad!.dispose();
    t.dispose();
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
  throwsLike(
    () => rmsNormAdd(zeros([2, 3]), zeros([3]), zeros([3])),
    "ShapeError",
    "rms_norm_add: residual must be [2, 3], got [3]",
  );
  throwsLike(
    () => rmsNormAdd(zeros([2, 3]), zeros([2, 3], "i32"), zeros([3])),
    "DTypeError",
    "rms_norm_add: residual must be f32, got i32",
  );
});

runTests();
