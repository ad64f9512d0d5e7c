import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import {
  add,
  div,
  eq,
  ge,
  gt,
  le,
  lt,
  maximum,
  minimum,
  mul,
  ne,
  pow,
  sub,
} from "../../src/autograd/ops/binary.ts";
import { ones, parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { checkOp, close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/binary.ts";

const ops = { add, sub, mul, div, pow, maximum, minimum };
const compare = { eq, ne, lt, le, gt, ge };

const NAMES = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"] as const;
const COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"] as const;

const CASES: [number[], number[]][] = [
  [[], []],
  [[1], [7]],
  [[5], []],
  [
    [3, 7],
    [3, 7],
  ],
  [
    [2, 8],
    [2, 8],
  ],
  [[3, 8], [8]],
  [[3, 7], [7]],
  [
    [3, 1],
    [1, 4],
  ],
  [
    [3, 8],
    [3, 1],
  ],
  [
    [2, 3, 4],
    [3, 1],
  ],
  [
    [2, 1, 3, 1, 2, 1],
    [1, 2, 1, 3, 1, 2],
  ],
  [
    [2, 1, 3, 4],
    [5, 1, 4],
  ],
  [[0, 4], [4]],
  [[130], [130]],
];

/** Away from zero, so that quotients stay of size 1; above it for pow, whose base must be. */
function valuesFor(name: string, n: number, seed: number): Float64Array {
  const away = randomValues(n, seed).map((v) => Math.fround(v + (v < 0 ? -0.5 : 0.5)));
  return name === "pow" ? away.map(Math.abs) : away;
}

for (const name of NAMES) {
  gpuTest(`${name}: forward and backward against float64`, async () => {
    for (const [sa, sb] of CASES) {
      await checkOp({
        name: `${name} [${sa}] [${sb}]`,
        run: (a, b) => ops[name](a!, b!),
        inputs: [
          { shape: sa, values: valuesFor(name, sizeOf(sa), 1) },
          { shape: sb, values: valuesFor(name, sizeOf(sb), 2) },
        ],
        forward: (a, b) => reference.binary(name, a!, sa, b!, sb).data,
        backward: (dy, a, b) => reference.binaryBackward(name, dy, a!, sa, b!, sb),
        K: sizeOf(sa) + sizeOf(sb),
      });
    }
  });

  gpuTest(`${name}: a number for either operand`, async () => {
    const shape = [3, 5];
    await checkOp({
      name: `${name} x, 0.75`,
      run: (x) => ops[name](x!, 0.75),
      inputs: [{ shape, values: valuesFor(name, 15, 4) }],
      forward: (x) => reference.binary(name, x!, shape, [0.75], []).data,
      backward: (dy, x) => [reference.binaryBackward(name, dy, x!, shape, [0.75], [])[0]],
    });
    await checkOp({
      name: `${name} 0.75, x`,
      run: (x) => ops[name](0.75, x!),
      inputs: [{ shape, values: valuesFor(name, 15, 5) }],
      forward: (x) => reference.binary(name, [0.75], [], x!, shape).data,
      backward: (dy, x) => [reference.binaryBackward(name, dy, [0.75], [], x!, shape)[1]],
    });
  });
}

gpuTest("binary: random broadcasts", async () => {
  const draw = randomValues(600, 8, 0.5);
  let at = 0;
  const next = (n: number) => Math.floor((draw[at++ % 600]! + 0.5) * n * 0.999);
  for (let round = 0; round < 30; round++) {
    const shape = Array.from({ length: next(7) }, () => 1 + next(4));
    const thinned = () => shape.map((n) => (next(3) === 0 ? 1 : n)).slice(next(shape.length + 1));
    const sa = next(2) === 0 ? shape : thinned();
    const sb = thinned();
    const name = NAMES[next(NAMES.length)]!;
    await checkOp({
      name: `${name} [${sa}] [${sb}]`,
      run: (a, b) => ops[name](a!, b!),
      inputs: [
        { shape: sa, values: valuesFor(name, sizeOf(sa), 20 + round) },
        { shape: sb, values: valuesFor(name, sizeOf(sb), 60 + round) },
      ],
      forward: (a, b) => reference.binary(name, a!, sa, b!, sb).data,
      backward: (dy, a, b) => reference.binaryBackward(name, dy, a!, sa, b!, sb),
      K: sizeOf(shape),
    });
  }
});

gpuTest("binary: one tensor for both operands, and only one that wants a gradient", async () => {
  await checkOp({
    name: "x · x",
    run: (x) => mul(x!, x!),
    inputs: [{ shape: [6] }],
    forward: (x) => x!.map((v) => v * v),
    backward: (dy, x) => [dy.map((g, i) => 2 * g * x![i]!)],
  });
  await checkOp({
    name: "a · b, b frozen",
    run: (a, b) => mul(a!, b!),
    inputs: [{ shape: [2, 3] }, { shape: [3], grad: false }],
    forward: (a, b) => reference.binary("mul", a!, [2, 3], b!, [3]).data,
    backward: (dy, a, b) => [reference.binaryBackward("mul", dy, a!, [2, 3], b!, [3])[0], null],
  });
});

gpuTest("maximum and minimum: equals share evenly", async () => {
  for (const name of ["maximum", "minimum"] as const) {
    await checkOp({
      name: `${name} of equals`,
      run: (a, b) => ops[name](a!, b!),
      inputs: [
        { shape: [4], values: [1, 2, 3, 4] },
        { shape: [4], values: [1, 3, 2, 4] },
      ],
      forward: (a, b) => reference.binary(name, a!, [4], b!, [4]).data,
      backward: (dy, a, b) => reference.binaryBackward(name, dy, a!, [4], b!, [4]),
    });
  }
});

/** Pairs of base and exponent, as two tensors' values. */
const columns = (pairs: readonly (readonly [number, number])[]) =>
  [pairs.map(([a]) => a), pairs.map(([, b]) => b)] as const;

gpuTest("pow: zeros, negative bases, infinities and NaN as IEEE 754 has them", async () => {
  const special: [base: number, exponent: number, power: number][] = [
    [0, 0, 1],
    [0, 2.5, 0],
    [0, -2.5, Infinity],
    [0, -1, Infinity],
    [-0, -1, -Infinity],
    [-0, 3, -0],
    [-2, 0, 1],
    [-2, 2, 4],
    [-2, 3, -8],
    [-2, -3, -0.125],
    [-2, 17, -131072],
    [-2, 18, 262144],
    [-2, 0.5, NaN],
    [-8, 1 / 3, NaN],
    [-1, 16777215, -1],
    [-1, 16777216, 1],
    [-1, 1e30, 1],
    [3, 15, 14348907],
    [-5, 9, -1953125],
    [2, -126, 2 ** -126],
    [2, 127, 2 ** 127],
    [2, 128, Infinity],
    [-2, 129, -Infinity],
    [1e-20, 2.5, 0],
    [0.25, 0.5, 0.5],
    [Infinity, 2, Infinity],
    [Infinity, -2.5, 0],
    [-Infinity, 17, -Infinity],
    [2, Infinity, Infinity],
    [2, -Infinity, 0],
    [0.5, Infinity, 0],
    [-1, Infinity, 1],
    [1, NaN, 1],
    [NaN, 0, 1],
    [NaN, 2, NaN],
    [NaN, 2.5, NaN],
    [2, NaN, NaN],
  ];
  const [a, b] = columns(special.map(([base, exponent]) => [base, exponent]));
  const y = await pow(tensor(a), tensor(b)).data();
  special.forEach(([base, exponent, power], i) => {
    ok(Object.is(y[i], power), `${base} to ${exponent}: expected ${power}, got ${y[i]}`);
  });
});

gpuTest("pow: within 6 units of the last place over the whole range of f32", async () => {
  const n = 4000;
  const [u, v] = [randomValues(n, 31), randomValues(n, 32)];
  // Bases 2^±126, then bases near 1 with huge exponents; results of 2^±125.
  const a = u.map((x, i) => Math.fround(i % 2 === 0 ? 2 ** (126 * x) : 1 + x * 2 ** -12));
  const b = v.map((x, i) => Math.fround((125 * x) / (Math.log2(a[i]!) || 1)));
  const y = await pow(tensor(a), tensor(b)).data();
  for (let i = 0; i < n; i++) {
    const expected = a[i]! ** b[i]!;
    const error = Math.abs(y[i]! / expected - 1);
    ok(error < 6 * 2 ** -24, `${a[i]} to ${b[i]}: expected ${expected}, got ${y[i]}`);
  }
});

gpuTest("pow: a whole number for the exponent", async () => {
  const shape = [3, 5];
  for (const exponent of [-3, -1, 0, 1, 2, 3, 4, 5, 6]) {
    await checkOp({
      name: `pow ${exponent}`,
      run: (x) => pow(x!, exponent),
      inputs: [{ shape, values: valuesFor("", 15, 6) }],
      forward: (x) => x!.map((v) => v ** exponent),
      backward: (dy, x) => [
        dy.map((g, i) => (exponent === 0 ? 0 : g * exponent * x![i]! ** (exponent - 1))),
      ],
    });
  }
});

gpuTest("pow: gradients at whole exponents of negative bases, and at zero", async () => {
  const pairs = [-3, -1.5, -0.5, 0.5, 3].flatMap((a) =>
    [-3, -2, -1, 0, 1, 2, 3, 5].map((b) => [a, b] as const),
  );
  const [bases, exponents] = columns(pairs);
  const shape = [pairs.length];
  await checkOp({
    name: "pow of negative bases",
    run: (a, b) => pow(a!, b!),
    inputs: [
      { shape, values: bases },
      { shape, values: exponents, grad: false },
    ],
    forward: (a, b) => reference.binary("pow", a!, shape, b!, shape).data,
    backward: (dy, a, b) => [reference.binaryBackward("pow", dy, a!, shape, b!, shape)[0], null],
  });
  const zero: [number, number][] = [
    [0, 0],
    [0, 1],
    [0, 2],
    [0, 3.5],
    [2, 0],
    [-2, 0],
  ];
  const [a, b] = columns(zero).map((values) => parameter(tensor([...values]))) as [Tensor, Tensor];
  backward(pow(a, b), { gradient: ones([6]) });
  equal(Array.from(await a.grad!.data()), [0, 1, 0, 0, 0, 0]);
  const db = await b.grad!.data();
  equal(Array.from(db.slice(0, 4)), [0, 0, 0, 0]);
  close([db[4]!], [Math.log(2)], 2 ** -23, "2⁰ by its exponent");
  ok(Number.isNaN(db[5]), "a negative base has no derivative by the exponent");
  backward(pow(b, -0.5), { gradient: ones([6]) });
  ok((await b.grad!.data())[0] === -Infinity, "1/√x falls infinitely fast at 0");
});

gpuTest("comparisons: u32 masks, every type, no gradient", async () => {
  for (const name of COMPARISONS) {
    for (const dtype of ["f32", "i32", "u32"] as const) {
      const va = [1, 2, 3, 4, 5, 6, 7, 8];
      const vb = [1, 3, 2, 4];
      const y = compare[name](tensor(va, [2, 4], dtype), tensor(vb, [4], dtype));
      is(y.dtype, "u32");
      const expected = reference.binary(name, va, [2, 4], vb, [4]).data;
      equal(Array.from(await y.data()), Array.from(expected), `${name} ${dtype}`);
      const scalar = await compare[name](tensor(va, [8], dtype), 4).data();
      equal(Array.from(scalar), Array.from(reference.binary(name, va, [8], [4], []).data));
    }
  }
  is(lt(parameter(tensor([1, 2])), 0).requiresGrad, false);
});

gpuTest("arithmetic on integers is exact", async () => {
  for (const dtype of ["i32", "u32"] as const) {
    const a = tensor([16777217, 5, 6], [3], dtype);
    equal(Array.from(await add(a, tensor([2, 3, 4], [3], dtype)).data()), [16777219, 8, 10]);
    equal(Array.from(await mul(a, 3).data()), [50331651, 15, 18]);
    equal(Array.from(await maximum(a, 6).data()), [16777217, 6, 6]);
    is(sub(a, 1).dtype, dtype);
  }
  equal(Array.from(await sub(3, tensor([5, 1], [2], "i32")).data()), [-2, 2]);
  equal(Array.from(await add(tensor([5, 1], [2], "i32"), -7).data()), [-2, -6]);
});

gpuTest("binary: errors", () => {
  const x = zeros([2, 3]);
  const i = zeros([3], "i32");
  throwsLike(
    () => add(x, zeros([2])),
    "ShapeError",
    "add: b must be broadcastable with a = [2, 3]",
  );
  throwsLike(() => mul(x, i), "DTypeError", "mul: b must be f32, as a is, got i32", "b.cast");
  throwsLike(() => div(i, 2), "DTypeError", "div: a must be f32, got i32");
  throwsLike(() => pow(i, 2), "DTypeError", "pow: a must be f32, got i32");
  throwsLike(() => pow(x, zeros([2])), "ShapeError", "pow: b must be broadcastable with a");
  throwsLike(() => add(zeros([2], "f16"), 1), "DTypeError", "add: a must be f32", "cast");
  throwsLike(() => add(i, 0.5), "ValueError", "add: b must be an integer that i32 holds, got 0.5");
  throwsLike(() => lt(zeros([1], "u32"), -1), "ValueError", "an integer that u32 holds");
  throwsLike(() => add(1, 2), "ValueError", "add: a must be a tensor", "two numbers");
  x.dispose();
  throwsLike(() => add(x, 1), "DisposedError", "add: argument 1 must be alive");
});

runTests();
