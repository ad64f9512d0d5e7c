import { equal, ok } from "uvu/assert";
import {
  abs,
  ceil,
  clamp,
  cos,
  erf,
  exp,
  expm1,
  floor,
  log,
  log1p,
  neg,
  reciprocal,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  softplus,
  sqrt,
  square,
  tanh,
} from "../../src/autograd/ops/unary.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/unary.ts";

const OPS: Record<reference.UnaryName, (x: Tensor) => Tensor> = {
  neg,
  abs,
  exp,
  log,
  sqrt,
  rsqrt,
  square,
  reciprocal,
  sin,
  cos,
  tanh,
  sigmoid,
  relu,
  sign,
  floor,
  ceil,
  round,
  log1p,
  expm1,
  erf,
  softplus,
};

const POSITIVE = ["log", "sqrt", "rsqrt", "reciprocal"];

/** Where the function is defined and of moderate size. */
function argumentsOf(name: reference.UnaryName, n: number, seed: number): Float64Array {
  const values = randomValues(n, seed, name === "log1p" ? 0.9 : 3);
  return POSITIVE.includes(name) ? values.map((v) => Math.fround(Math.abs(v) + 0.25)) : values;
}

for (const name of reference.UNARY_NAMES) {
  gpuTest(`${name}: forward and backward against float64`, async () => {
    for (const shape of [[], [1], [3], [5, 13], [2, 3, 129], [1, 2, 1, 2, 2, 2], [0, 4]]) {
      await checkBothPaths({
        name: `${name} [${shape}]`,
        run: (x) => OPS[name](x!),
        inputs: [{ shape, values: argumentsOf(name, sizeOf(shape), 7) }],
        forward: (x) => reference.unary(name, x!),
        backward: (dy, x) => [reference.unaryBackward(name, dy, x!)],
      });
    }
  });
}

/** Largest error relative to each value alone, in units of the last place. */
async function worst(name: reference.UnaryName, values: number[]): Promise<number> {
  const x = values.map(Math.fround);
  const got = await OPS[name](tensor(x, [x.length])).data();
  const expected = reference.unary(name, x);
  let most = 0;
  expected.forEach((e, i) => {
    const unit = Math.max(Math.abs(e) * 2 ** -23, 2 ** -126);
    most = Math.max(most, Math.abs(got[i]! - e) / unit);
  });
  return most;
}

gpuTest("unary: accurate to a few units of the last place everywhere", async () => {
  const small = [1e-30, 1e-10, 1e-7, -1e-7, 1e-4, -1e-4, 0.01, -0.01, 0.3, -0.3];
  const middle = Array.from({ length: 200 }, (_, i) => (i - 100) / 7.3);
  const cases: [reference.UnaryName, number[]][] = [
    ["exp", [...small, ...middle, -80, 80, 88]],
    ["expm1", [...small, ...middle, 80]],
    ["log1p", [...small, ...middle.map((v) => Math.abs(v)), -0.9, -0.999, 1e6, 1e30]],
    ["log", [1e-30, 0.5, 0.7, 0.71, 0.9, 0.9999, 1.0001, 1.1, 1.41, 1.42, 2, 1e6, 1e30]],
    ["tanh", [...small, ...middle, 50, -1000]],
    ["erf", [...small, ...middle]],
    ["sigmoid", [...small, ...middle, -80, 80]],
    ["softplus", [...small, ...middle, -80, 80]],
  ];
  for (const [name, values] of cases) {
    const units = await worst(name, values);
    ok(units < 8, `${name}: ${units} units`);
  }
});

gpuTest("sin and cos: absolute error below 2^-22 up to 10,000", async () => {
  const values = randomValues(2000, 5, 10_000);
  for (const name of ["sin", "cos"] as const) {
    const got = await OPS[name](tensor(values, [2000])).data();
    const expected = reference.unary(name, values);
    const most = expected.reduce((m, e, i) => Math.max(m, Math.abs(got[i]! - e)), 0);
    ok(most < 2 ** -22, `${name}: ${most}`);
  }
});

gpuTest("unary: far out without NaN or infinity", async () => {
  const x = tensor([-1e30, -1000, 1000, 1e30], [4]);
  const large = 3.4027e38; // within 1e-4 of the largest number there is
  const e = await exp(x).data();
  ok(e[0] === 0 && e[1] === 0 && e[2]! > large && e[3]! > large && e.every(Number.isFinite));
  equal(Array.from(await tanh(x).data()), [-1, -1, 1, 1]);
  equal(Array.from(await sigmoid(x).data()), [0, 0, 1, 1]);
  equal(Array.from(await erf(x).data()), [-1, -1, 1, 1]);
  equal(Array.from(await softplus(tensor([-1000, 1000], [2])).data()), [0, 1000]);
});

gpuTest("round: halves to even", async () => {
  const x = tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4999], [7]);
  equal(
    Array.from(await round(x).data(), (v) => v + 0),
    [-2, -2, 0, 0, 2, 2, 0],
  );
});

gpuTest("clamp: forward, and a gradient of 1 on the bounds", async () => {
  for (const [low, high] of [
    [-1, 1],
    [-1, undefined],
    [undefined, 1],
    [0.5, 0.5],
  ]) {
    const [lo, hi] = [low ?? -Infinity, high ?? Infinity];
    await checkBothPaths({
      name: `clamp ${low} ${high}`,
      run: (x) => clamp(x!, low, high),
      inputs: [{ shape: [7], values: [-3, -1, -0.5, 0, 0.5, 1, 2] }],
      forward: (x) => x!.map((v) => Math.min(Math.max(v, lo), hi)),
      backward: (dy, x) => [dy.map((g, i) => (x![i]! >= lo && x![i]! <= hi ? g : 0))],
    });
  }
});

gpuTest("unary: errors", () => {
  const x = zeros([2], "i32");
  for (const name of reference.UNARY_NAMES) {
    throwsLike(() => OPS[name](x), "DTypeError", `${name}: x must be f32, got i32`, "cast");
  }
  throwsLike(
    () => clamp(zeros([2]), 2, 1),
    "ValueError",
    "clamp: low must be at most high = 1, got 2",
  );
  throwsLike(() => clamp(zeros([2]), Number.NaN), "ValueError", "clamp: low");
});

runTests();
