import { equal, is } from "uvu/assert";
import { argmax, max, mean, min, sum, variance } from "../../src/autograd/ops/reduce.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { checkOp, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/reduce.ts";

type Axes = number | number[] | undefined;
type Name = "sum" | "mean" | "max" | "min" | "var";
type Reduction = (x: Tensor, axes?: Axes, options?: { keepDims?: boolean }) => Tensor;

const OPS: Record<Name, Reduction> = { sum, mean, max, min, var: variance };
const NAMES = Object.keys(OPS) as Name[];

const CASES: [number[], Axes][] = [
  [[], undefined],
  [[7], undefined],
  [[7], 0],
  [[3, 5], 0],
  [[3, 5], -1],
  [[4, 8], 0],
  [[3, 64], 1],
  [[3, 66], 1],
  [[130, 4], 0],
  [[131, 3], 0],
  [[2, 3, 4], 1],
  [
    [2, 3, 4],
    [0, 2],
  ],
  [
    [2, 3, 4, 5],
    [1, 2],
  ],
  [
    [2, 3, 4, 5],
    [0, 2],
  ],
  [
    [2, 3, 2, 2, 3, 2],
    [0, 3, 5],
  ],
  [[2, 3], []],
  [[2, 700], 1],
  [[0, 3], 1],
];

/** A gradient of many elements per result, and the reference's rule that var needs two. */
function claims(name: Name, shape: number[], axes: Axes): boolean {
  const n = axes === undefined ? sizeOf(shape) : 2;
  return name !== "var" || (n > 1 && !(Array.isArray(axes) && axes.length === 0));
}

for (const name of NAMES) {
  gpuTest(`${name}: forward and backward against float64`, async () => {
    for (const [shape, axes] of CASES) {
      if (!claims(name, shape, axes)) continue;
      for (const keepDims of [false, true]) {
        await checkOp({
          name: `${name} [${shape}] axes ${axes} keepDims ${keepDims}`,
          run: (x) => OPS[name](x!, axes, { keepDims }),
          inputs: [{ shape }],
          forward: (x) => reference.reduce(name, x!, shape, axes, { keepDims }).data,
          backward: (dy, x) => [reference.reduceBackward(name, dy, x!, shape, axes)],
          K: sizeOf(shape),
        });
      }
    }
  });

  gpuTest(`${name}: shapes of the result`, () => {
    const x = zeros([2, 3, 4]);
    equal(OPS[name](x).shape, []);
    equal(OPS[name](x, undefined, { keepDims: true }).shape, [1, 1, 1]);
    equal(OPS[name](x, [0, 2]).shape, [3]);
    equal(OPS[name](x, [0, -1], { keepDims: true }).shape, [1, 3, 1]);
  });
}

gpuTest("reduce: random shapes and axes", async () => {
  const draw = randomValues(500, 11, 0.5);
  let at = 0;
  const next = (n: number) => Math.floor((draw[at++ % 500]! + 0.5) * n * 0.999);
  for (let round = 0; round < 25; round++) {
    const shape = Array.from({ length: 1 + next(6) }, () => 1 + next(4));
    const axes = shape.map((_, i) => i).filter(() => next(2) === 1);
    const name = NAMES[next(4)]!;
    await checkOp({
      name: `${name} [${shape}] axes ${axes}`,
      run: (x) => OPS[name](x!, axes),
      inputs: [{ shape }],
      forward: (x) => reference.reduce(name, x!, shape, axes).data,
      backward: (dy, x) => [reference.reduceBackward(name, dy, x!, shape, axes)],
      K: sizeOf(shape),
    });
  }
});

gpuTest("max and min: ties share the gradient evenly", async () => {
  for (const name of ["max", "min"] as const) {
    await checkOp({
      name: `${name} of equals`,
      run: (x) => OPS[name](x!, 1),
      inputs: [{ shape: [2, 4], values: [1, 3, 3, 1, 2, 2, 2, 2] }],
      forward: (x) => reference.reduce(name, x!, [2, 4], 1).data,
      backward: (dy, x) => [reference.reduceBackward(name, dy, x!, [2, 4], 1)],
    });
  }
});

gpuTest("var: correction, and no cancellation far from zero", async () => {
  const values = randomValues(300, 3).map((v) => Math.fround(1000 + v));
  for (const correction of [0, 1, 2]) {
    await checkOp({
      name: `var correction ${correction}`,
      run: (x) => variance(x!, 1, { correction }),
      inputs: [{ shape: [3, 100], values }],
      forward: (x) => reference.reduce("var", x!, [3, 100], 1, { correction }).data,
      backward: (dy, x) => [reference.reduceBackward("var", dy, x!, [3, 100], 1, { correction })],
      // The mean, near 1000, is rounded to 2^-14; its square enters.
      bound: 1e-4,
    });
  }
});

gpuTest("sum: more elements than one loop may run", async () => {
  const n = 300_001;
  const values = randomValues(n, 17);
  const exact = values.reduce((a, b) => a + b, 0);
  const got = await sum(tensor(values, [n])).item();
  is(Math.abs(got - exact) < 0.01, true, `${got} against ${exact}`);
  const columns = tensor(values.slice(0, 300_000), [100_000, 3]);
  const expected = [0, 0, 0];
  for (let i = 0; i < 300_000; i++) expected[i % 3]! += values[i]!;
  const sums = await sum(columns, 0).data();
  for (let i = 0; i < 3; i++) is(Math.abs(sums[i]! - expected[i]!) < 0.01, true, `column ${i}`);
  is(
    await argmax(tensor(values, [n])).item(),
    values.reduce((best, v, i) => (v > values[best]! ? i : best), 0),
  );
  const again = await sum(tensor(values, [n])).item();
  is(again, got, "repeatable");
});

gpuTest("argmax: one axis, flattened, ties, many stages", async () => {
  const values = randomValues(2 * 3 * 300, 23);
  const x = tensor(values, [2, 3, 300]);
  for (const axis of [0, 1, 2, -1, undefined]) {
    const y = argmax(x, axis);
    is(y.dtype, "i32");
    const expected = reference.reduce("argmax", values, [2, 3, 300], axis);
    equal(Array.from(await y.data()), Array.from(expected.data), `axis ${axis}`);
    equal(y.shape, expected.shape);
  }
  equal(
    Array.from(
      await argmax(
        tensor([
          [1, 5, 5],
          [2, 2, 2],
        ]),
        1,
      ).data(),
    ),
    [1, 0],
  );
  equal(argmax(x, 1, { keepDims: true }).shape, [2, 1, 300]);
  is(argmax(parameter(tensor([1, 2]))).requiresGrad, false);
});

gpuTest("sum, max, min of integers", async () => {
  for (const dtype of ["i32", "u32"] as const) {
    const x = tensor([1, 2, 3, 4, 5, 16777217], [2, 3], dtype);
    equal(Array.from(await sum(x).data()), [16777232]);
    equal(Array.from(await max(x, 1).data()), [3, 16777217]);
    equal(Array.from(await min(x, 1).data()), [1, 4]);
    is(sum(x).dtype, dtype);
  }
  is(await max(tensor([-5, -3], [2], "i32")).item(), -3);
});

gpuTest("reduce: empty", async () => {
  is(await sum(zeros([0])).item(), 0);
  equal(Array.from(await sum(zeros([0, 2]), 0).data()), [0, 0]);
  equal(max(zeros([0, 2]), 1).shape, [0]);
  equal(mean(zeros([0, 0]), 0).shape, [0]);
});

gpuTest("reduce: errors", () => {
  const x = zeros([2, 3]);
  throwsLike(() => sum(x, 2), "ValueError", "sum: axes must be in [-2, 1], got 2");
  throwsLike(() => sum(x, [0, -2]), "ValueError", "sum: axes must be distinct");
  throwsLike(() => mean(zeros([2], "i32")), "DTypeError", "mean: x must be f32, got i32");
  throwsLike(() => sum(zeros([2], "f16")), "DTypeError", "sum: x must be f32 or i32 or u32");
  throwsLike(() => max(zeros([0, 2]), 0), "ValueError", "max: x must be of at least one element");
  throwsLike(() => mean(zeros([0])), "ValueError", "mean: x must be of at least one element");
  throwsLike(() => argmax(zeros([0])), "ValueError", "argmax: x");
  throwsLike(
    () => variance(zeros([1])),
    "ValueError",
    "var: x must be of more than correction = 1",
  );
  throwsLike(() => argmax(x, 5), "ValueError", "argmax: axis must be in [-2, 1]");
});

runTests();
