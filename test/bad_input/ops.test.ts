// Arguments of ops that do not fit: shapes, element types, words, ids, and what is no tensor.
import { equal, ok } from "uvu/assert";
import "../../src/autograd/methods.ts";
import { backward } from "../../src/autograd/backward.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import { LowrankError } from "../../src/gpu/errors.ts";
import { arange, parameter, tensor, zeros } from "../../src/tensor/create.ts";
import type { DType } from "../../src/tensor/dtype.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { anything, checkRefused, f32, i32, type Refused } from "../refused.ts";

const ids = (...values: number[]) => tensor(Int32Array.from(values));

gpuTest("shapes that do not fit", () => {
  const [a, b, c] = [f32(2, 3), f32(4, 5), f32(4)];
  const [scalar, five] = [f32(), f32(5)];
  checkRefused([
    [() => ops.matmul(a, b), "ShapeError: matmul: b must be [..., K = 3, N], got [4, 5]"],
    [() => ops.matmul(c, b), "ShapeError: matmul: a must be [..., M, K], got [4]"],
    [() => ops.add(a, c), "ShapeError: add: b must be broadcastable with a = [2, 3], got [4]"],
    [() => ops.linear(a, b), "ShapeError: linear: x must be [..., in = 5]", "got [2, 3]"],
    [() => ops.linear(five, b, a), "ShapeError: linear: bias must be [out] = [4], got [2, 3]"],
    [() => ops.layerNorm(a, c, c), "ShapeError: layer_norm: weight must be [D] = [3], got [4]"],
    [() => ops.rmsNorm(scalar, c), "ShapeError: rms_norm: x must be [..., D], got []"],
    [() => ops.concat([a, b]), "ShapeError: concat: list[1] must be [n, 3], got [4, 5]"],
    [() => ops.reshape(a, [5]), "ShapeError: reshape: shape must be of 6 elements", "got [5]"],
    [() => ops.where(c, a, 0), "ShapeError: where: mask must be broadcastable with", "got [4]"],
    [() => ops.swiglu(a, b), "ShapeError: swiglu: up must be [2, 3], got [4, 5]"],
    [() => a.item(), "ShapeError: item: the tensor must be of size 1, got [2, 3]"],
    [() => f32(2, -1), "ShapeError: zeros: shape must be at most 6 non-negative", "got [2, -1]"],
    [() => f32(1, 1, 1, 1, 1, 1, 1), "ShapeError: zeros: shape must be at most 6"],
    [() => ops.sum(a, 2), "ValueError: sum: axes must be in [-2, 1], got 2"],
    [() => arange(0, Number.NaN), "ValueError: arange: end must be finite, got NaN"],
    [() => arange(0, 9, 0), "ValueError: arange: step must be finite and not 0, got 0"],
  ]);
});

gpuTest("element types that do not fit", () => {
  const [x, n, half] = [f32(2, 2), i32(2, 2), zeros([2, 2], "f16")];
  const [three, f64] = [i32(3), "f64" as DType];
  const unary = ["exp", "gelu", "mean", "silu", "softmax", "var"] as const;
  checkRefused([
    ...unary.map((name): Refused => {
      return [() => n[name](), `DTypeError: ${name}: x must be f32, got i32`, 'x.cast("f32")'];
    }),
    [() => ops.matmul(half, x), "DTypeError: matmul: a must be f32, got f16"],
    [() => ops.add(x, n), "DTypeError: add: b must be f32, as a is, got i32"],
    [() => ops.add(half, 1), "DTypeError: add: a must be f32 or i32 or u32, got f16"],
    [() => ops.add(n, 0.5), "ValueError: add: b must be an integer that i32 holds, got 0.5"],
    [() => ops.where(n, x, n), "DTypeError: where: b must be f32, as a is, got i32"],
    [() => ops.concat([x, n]), "DTypeError: concat: list[1] must be f32, got i32"],
    [() => ops.linear(x, x, three), "DTypeError: linear: bias must be f32, got i32"],
    [() => ops.crossEntropy(x, x), "DTypeError: cross_entropy: targets must be i32 or u32, got"],
    [() => parameter(n), "DTypeError: requiresGrad: the tensor must be f32, got i32"],
    [() => zeros([2], f64), "DTypeError: zeros: dtype must be one of f32, f16", "got f64"],
    [() => tensor([2], [1], f64), "DTypeError: tensor: dtype must be one of", "got f64"],
    [() => ops.cast(x, f64), "DTypeError: cast: dtype must be one of", "got f64"],
  ]);
});

gpuTest("words that an option does not know", () => {
  const x = f32(2, 2);
  const targets = ids(0, 1);
  const [exact, reduction] = [anything("exact"), anything("average")];
  checkRefused([
    [
      () => ops.gelu(x, exact),
      'ValueError: gelu: approximate must be "none" or "tanh", got "exact"',
    ],
    [
      () => ops.crossEntropy(x, targets, { reduction }),
      'ValueError: cross_entropy: reduction must be "mean" or "sum" or "none", got "average"',
    ],
  ]);
});

gpuTest("what is no tensor", () => {
  const x = f32(2, 2);
  const [nothing, nil] = [anything(undefined), anything(null)];
  checkRefused([
    [() => ops.gelu(anything(5)), "DTypeError: gelu: x must be a Tensor, got 5", "tensor(values)"],
    [() => ops.matmul(x, nothing), "DTypeError: matmul: b must be a Tensor, got undefined"],
    [() => ops.add(x, nil), "DTypeError: add: b must be a Tensor, got null"],
    [() => ops.sum(anything([1, 2])), "DTypeError: sum: x must be a Tensor, got an array"],
    [() => ops.reshape(anything([1]), [1]), "DTypeError: reshape: x must be a Tensor"],
    [() => ops.embedding(nothing, x), "DTypeError: embedding: weight must be a Tensor"],
    [() => ops.crossEntropy(x, nothing), "DTypeError: cross_entropy: targets must be a Tensor"],
    [() => backward(anything(1)), "DTypeError: backward: the tensor must be a Tensor, got 1"],
    [() => tensor(anything("abc")), "ShapeError: tensor: values must be nested arrays of numbers"],
    [() => ops.add(1, 2), "ValueError: add: a must be a tensor, or b one, got two numbers"],
  ]);
});

gpuTest("ids outside the table, targets outside the classes", () => {
  const [x, logits] = [f32(5, 3), f32(2, 3)];
  const [high, low, three] = [ids(0, 7), ids(0, -1), ids(0, 3)];
  const along = tensor(Int32Array.of(0, 9, 1), [1, 3]);
  checkRefused([
    [() => ops.embedding(x, high), "ValueError: embedding: ids must be in [0, 4], got 7"],
    [() => ops.embedding(x, low), "ValueError: embedding: ids must be in [0, 4], got -1"],
    [() => ops.indexSelect(x, high), "ValueError: index_select: ids must be in [0, 4], got 7"],
    [() => ops.gather(x, 0, along), "ValueError: gather: ids must be in [0, 4], got 9"],
    [
      () => ops.crossEntropy(logits, three),
      "ValueError: cross_entropy: targets must be in [0, 2], got 3",
      "Only -100 is ignored",
    ],
    [() => ops.crossEntropy(logits, low), "ValueError: cross_entropy: targets must be in [0, 2]"],
  ]);
  ops.crossEntropy(logits, ids(2, -100));
  ops.crossEntropy(logits, three, { ignoreIndex: 3 });
});

gpuTest("an error tells its parts to programs too", () => {
  try {
    ops.linear(f32(2, 3), f32(4, 5));
  } catch (error) {
    ok(error instanceof LowrankError);
    const { op, arg, expected, got } = error;
    const parts = { op: "linear", arg: "x", got: "[2, 3]" };
    equal(
      { op, arg, got, expected },
      { ...parts, expected: "[..., in = 5], for weight is [4, 5]" },
    );
    return;
  }
  ok(false, "nothing was thrown");
});

runTests();
