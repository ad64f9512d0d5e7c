import { equal, is } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { concat } from "../../src/autograd/ops/concat.ts";
import { broadcastTo, permute, transpose } from "../../src/autograd/ops/copy.ts";
import { add, mul, sum } from "../../src/autograd/ops/index.ts";
import { reshape, squeeze, unsqueeze } from "../../src/autograd/ops/reshape.ts";
import { chunk, slice, split } from "../../src/autograd/ops/slice.ts";
import { copyInto } from "../../src/kernels/copy.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import type { DType } from "../../src/tensor/dtype.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import { checkOp, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/copy.ts";

const FOUR_BYTES: DType[] = ["f32", "i32", "u32"];

function counted(shape: readonly number[], dtype: DType = "f32") {
  return tensor(
    Float64Array.from({ length: sizeOf(shape) }, (_, i) => i),
    shape,
    dtype,
  );
}

const PERMUTES: [number[], number[]][] = [
  [[], []],
  [[5], [0]],
  [
    [3, 5],
    [1, 0],
  ],
  [
    [8, 12],
    [1, 0],
  ],
  [
    [4, 6],
    [1, 0],
  ],
  [
    [2, 8, 4],
    [0, 2, 1],
  ],
  [
    [2, 3, 4, 8],
    [0, 2, 1, 3],
  ],
  [
    [2, 3, 4, 8],
    [0, 2, 3, 1],
  ],
  [
    [3, 8, 2, 4],
    [0, 2, 3, 1],
  ],
  [
    [2, 1, 3, 2, 2, 3],
    [5, 2, 0, 4, 1, 3],
  ],
  [
    [2, 3, 2, 3, 2, 3],
    [5, 3, 1, 4, 2, 0],
  ],
  [
    [0, 4, 3],
    [2, 0, 1],
  ],
];

gpuTest("permute: forward and backward against the reference", async () => {
  for (const [shape, axes] of PERMUTES) {
    await checkOp({
      name: `permute [${shape}] by [${axes}]`,
      run: (x) => permute(x!, axes),
      inputs: [{ shape }],
      forward: (x) => reference.permute(x!, shape, axes),
      backward: (dy) => [reference.permuteBackward(dy, shape, axes)],
      bound: 0,
    });
  }
});

gpuTest("permute: random shapes", async () => {
  const draw = randomValues(400, 5, 0.5);
  let at = 0;
  const next = (n: number) => Math.floor((draw[at++ % 400]! + 0.5) * n * 0.999);
  for (let round = 0; round < 20; round++) {
    const shape = Array.from({ length: 1 + next(6) }, () => 1 + next(5));
    const left = shape.map((_, i) => i);
    const axes = shape.map(() => left.splice(next(left.length), 1)[0]!);
    await checkOp({
      name: `permute [${shape}] by [${axes}]`,
      run: (x) => permute(x!, axes),
      inputs: [{ shape }],
      forward: (x) => reference.permute(x!, shape, axes),
      bound: 0,
    });
    const axis = next(shape.length);
    const start = next(shape[axis]!);
    const end = start + next(shape[axis]! - start + 1);
    await checkOp({
      name: `slice [${shape}] axis ${axis} ${start}..${end}`,
      run: (x) => slice(x!, axis, start, end),
      inputs: [{ shape }],
      forward: (x) => reference.slice(x!, shape, axis, start, end),
      bound: 0,
    });
  }
});

gpuTest("transpose: any two axes, integers too", async () => {
  for (const dtype of FOUR_BYTES) {
    const x = counted([2, 3, 4], dtype);
    const y = transpose(x, 0, 2);
    equal(y.shape, [4, 3, 2]);
    is(y.dtype, dtype);
    equal(
      Array.from(await y.data()),
      Array.from(
        reference.permute(
          Array.from({ length: 24 }, (_, i) => i),
          [2, 3, 4],
          [2, 1, 0],
        ),
      ),
    );
  }
  equal(transpose(counted([2, 3])).shape, [3, 2]);
});

gpuTest("slice: forward and backward against the reference", async () => {
  const cases: [number[], number, number, number][] = [
    [[7], 0, 2, 5],
    [[7], 0, 0, 7],
    [[4, 8], 1, 4, 8],
    [[4, 8], 1, 3, 6],
    [[4, 8], 0, 1, 3],
    [[2, 5, 3, 4], 1, 1, 4],
    [[2, 5], 1, 3, 3],
  ];
  for (const [shape, axis, start, end] of cases) {
    await checkOp({
      name: `slice [${shape}] axis ${axis} ${start}..${end}`,
      run: (x) => slice(x!, axis, start, end),
      inputs: [{ shape }],
      forward: (x) => reference.slice(x!, shape, axis, start, end),
      backward: (dy) => [reference.sliceBackward(dy, shape, axis, start, end)],
      bound: 0,
    });
  }
  equal(Array.from(await slice(counted([6]), 0, -2).data()), [4, 5]);
  equal(Array.from(await slice(counted([6]), -1, 1, -3).data()), [1, 2]);
});

gpuTest("split and chunk: parts along an axis", async () => {
  const x = counted([5, 2]);
  equal(
    split(x, 2).map((p) => p.shape),
    [
      [2, 2],
      [2, 2],
      [1, 2],
    ],
  );
  const [, b] = split(x, [1, 4]);
  equal(Array.from(await b!.data()), [2, 3, 4, 5, 6, 7, 8, 9]);
  const [left, right] = chunk(x, 2, -1);
  equal(Array.from(await left!.data()), [0, 2, 4, 6, 8]);
  equal(Array.from(await right!.data()), [1, 3, 5, 7, 9]);
});

gpuTest(
  "split: each part's gradient is its part of x's; of a part that nobody used it is 0",
  async () => {
    for (const axis of [0, 1]) {
      const x = counted([6, 6]);
      x.requiresGrad = true;
      const [a, , c] = split(x, [1, 2, 3], axis);
      backward(add(sum(mul(a!, a!)), sum(mul(c!, c!))));
      const [values, grad] = [await x.data(), await x.grad!.data()];
      const at = (i: number) => (axis === 0 ? Math.floor(i / 6) : i % 6);
      equal(
        Array.from(grad),
        Array.from(values, (v, i) => (at(i) === 1 || at(i) === 2 ? 0 : 2 * v)),
      );
    }
  },
);

gpuTest("concat: forward and backward against the reference", async () => {
  const cases: [number[][], number][] = [
    [[[3], [4]], 0],
    [
      [
        [2, 3],
        [2, 5],
        [2, 1],
      ],
      1,
    ],
    [
      [
        [2, 4],
        [2, 8],
      ],
      1,
    ],
    [
      [
        [1, 3],
        [0, 3],
        [4, 3],
      ],
      0,
    ],
    [
      [
        [2, 1, 3, 2],
        [2, 2, 3, 2],
      ],
      1,
    ],
  ];
  for (const [shapes, axis] of cases) {
    const total = shapes.reduce((sum, s) => sum + s[axis]!, 0);
    const shape = shapes[0]!.map((n, i) => (i === axis ? total : n));
    await checkOp({
      name: `concat ${JSON.stringify(shapes)} axis ${axis}`,
      run: (...list) => concat(list, axis),
      inputs: shapes.map((s) => ({ shape: s })),
      forward: (...list) => reference.concat(list, shapes, axis),
      backward: (dy) => {
        let start = 0;
        return shapes.map((s) => {
          start += s[axis]!;
          return reference.slice(dy, shape, axis, start - s[axis]!, start);
        });
      },
      bound: 0,
    });
  }
});

gpuTest("broadcastTo: forward and backward against the reference", async () => {
  const cases: [number[], number[]][] = [
    [[], [3, 4]],
    [[1], [5]],
    [
      [3, 1],
      [3, 4],
    ],
    [[4], [2, 3, 4]],
    [
      [2, 1, 3, 1],
      [2, 4, 3, 5],
    ],
    [
      [1, 2, 1, 2, 1, 2],
      [2, 2, 2, 2, 3, 2],
    ],
    [
      [3, 1],
      [3, 0],
    ],
    [
      [3, 4],
      [3, 4],
    ],
  ];
  for (const [from, to] of cases) {
    await checkOp({
      name: `broadcastTo [${from}] [${to}]`,
      run: (x) => broadcastTo(x!, to),
      inputs: [{ shape: from }],
      forward: (x) => reference.broadcastTo(x!, from, to),
      backward: (dy) => [reference.broadcastToBackward(dy, from, to)],
      K: 24,
    });
  }
});

gpuTest("reshape, squeeze, unsqueeze: views with gradients", async () => {
  for (const [from, to, out] of [
    [
      [2, 3, 4],
      [6, -1],
      [6, 4],
    ],
    [[6], [], null],
    [[1, 1], [], []],
    [
      [0, 3],
      [3, 0],
      [3, 0],
    ],
    [[2, 3], [-1], [6]],
  ] as [number[], number[], number[] | null][]) {
    if (!out) continue;
    await checkOp({
      name: `reshape [${from}] to [${to}]`,
      run: (x) => reshape(x!, to),
      inputs: [{ shape: from }],
      forward: (x) => x!,
      backward: (dy) => [dy],
      bound: 0,
    });
    equal(reshape(counted(from), to).shape, out);
  }
  const x = counted([2, 1, 3]);
  equal(squeeze(x).shape, [2, 3]);
  equal(squeeze(x, -2).shape, [2, 3]);
  equal(unsqueeze(x, -1).shape, [2, 1, 3, 1]);
  equal(unsqueeze(x, 0).shape, [1, 2, 1, 3]);
  is(reshape(x, [6]).storage, x.storage, "shares memory");
  equal(reshape(zeros([3], "f16"), [3, 1]).dtype, "f16");
});

gpuTest("copyInto: writes a part in place", async () => {
  const cache = zeros([2, 5, 3]);
  copyInto(cache, counted([2, 2, 3]), 1, 3);
  const expected = new Float32Array(30);
  for (let i = 0; i < 12; i++) expected[Math.floor(i / 6) * 15 + 9 + (i % 6)] = i;
  equal(await cache.data(), expected);
  const before = cache.storage.version;
  copyInto(cache, counted([2, 1, 3]), -2, 0);
  is(cache.storage.version, before + 1);
});

gpuTest("copy of f16: whole pairs, else refused", async () => {
  const cache = zeros([2, 4, 4], "f16");
  copyInto(
    cache,
    tensor(
      Float64Array.from({ length: 8 }, (_, i) => i + 1),
      [2, 1, 4],
      "f16",
    ),
    1,
    2,
  );
  const got = await cache.data();
  equal(Array.from(got.slice(8, 12)), [1, 2, 3, 4]);
  equal(Array.from(got.slice(24, 28)), [5, 6, 7, 8]);
  equal(Array.from(await slice(cache, 1, 2, 3).data()), [1, 2, 3, 4, 5, 6, 7, 8]);
  throwsLike(() => slice(zeros([3, 3], "bf16"), 1, 0, 2), "DTypeError", "slice: x", "whole pairs");
  throwsLike(
    () => permute(zeros([2, 2], "f16"), [1, 0]),
    "DTypeError",
    "permute: x",
    'x.cast("f32")',
  );
});

gpuTest("copy ops: errors", () => {
  const x = zeros([2, 3]);
  throwsLike(
    () => permute(x, [0, 0]),
    "ValueError",
    "permute: axes must be a permutation of [0, 1]",
  );
  throwsLike(() => transpose(x, 0, 2), "ValueError", "transpose: j must be in [-2, 1], got 2");
  throwsLike(() => slice(x, 1, 2, 4), "ValueError", "slice: start and end", "[0, 3]", "2 and 4");
  throwsLike(() => slice(x, 1, 2, 1), "ValueError", "start first");
  throwsLike(() => split(x, [1, 1], 1), "ValueError", "split: sizes", "add up to 3");
  throwsLike(() => split(x, 0), "ValueError", "split: sizes must be at least 1");
  throwsLike(() => chunk(x, 2, 1), "ValueError", "chunk: parts must be a divisor of 3");
  throwsLike(() => concat([]), "ValueError", "concat: list must be not empty");
  throwsLike(() => concat([x, zeros([3, 3])], 1), "ShapeError", "concat: list[1] must be [2, n]");
  throwsLike(() => concat([x, zeros([2, 3], "i32")]), "DTypeError", "list[1] must be f32, got i32");
  throwsLike(() => broadcastTo(x, [3, 3]), "ShapeError", "broadcast_to: shape", "x [2, 3]");
  throwsLike(() => broadcastTo(x, [3]), "ShapeError", "broadcast_to: shape");
  throwsLike(() => reshape(x, [4, -1]), "ShapeError", "reshape: shape must be of 6 elements");
  throwsLike(() => reshape(x, [-1, -1]), "ShapeError", "at most one -1");
  throwsLike(() => reshape(x, [-2, -3]), "ShapeError", "reshape");
  throwsLike(() => squeeze(x, 0), "ShapeError", "squeeze: x must be of size 1 along axis 0");
  throwsLike(() => unsqueeze(x, 4), "ValueError", "unsqueeze: axis must be in [-3, 2]");
  throwsLike(() => unsqueeze(zeros([1, 1, 1, 1, 1, 1]), 0), "ShapeError", "at most 6");
  throwsLike(
    () => copyInto(x, zeros([2, 2]), 1, 2),
    "ValueError",
    "copy_into: start must be in [0, 1]",
  );
  throwsLike(
    () => copyInto(x, zeros([1, 2]), 1, 0),
    "ShapeError",
    "copy_into: source must be [2, n]",
  );
  throwsLike(() => copyInto(x, zeros([2, 3], "i32"), 1, 0), "DTypeError", "copy_into: source");
  throwsLike(() => copyInto(x, x, 1, 0), "ValueError", "other memory");
  x.dispose();
  throwsLike(() => permute(x, [1, 0]), "DisposedError", "permute: x must be alive");
});

runTests();
