// Random shapes against the float64 references: forward and every gradient.
import { equal } from "uvu/assert";
import * as index from "../../src/autograd/ops/index.ts";
import { tensor } from "../../src/tensor/create.ts";
import { checkOp, close, runTests, throwsLike, tolerance } from "../gpu.ts";
import { type Draw, property } from "../properties.ts";
import { sizeOf } from "../reference/arrays.ts";
import { attention, attentionBackward } from "../reference/attention.ts";
import { binary, binaryBackward } from "../reference/binary.ts";
import * as copy from "../reference/copy.ts";
import { crossEntropy, crossEntropyBackward } from "../reference/cross_entropy.ts";
import { embedding, embeddingBackward } from "../reference/embedding.ts";
import { gather, gatherBackward } from "../reference/gather.ts";
import { layerNorm, layerNormBackward } from "../reference/layer_norm.ts";
import { loraLinear, loraLinearBackward } from "../reference/lora_linear.ts";
import { matmul, matmulBackward } from "../reference/matmul.ts";
import { reduce, reduceBackward } from "../reference/reduce.ts";
import { rmsNorm, rmsNormBackward } from "../reference/rms_norm.ts";
import * as softmax from "../reference/softmax.ts";
import { swiglu, swigluBackward } from "../reference/swiglu.ts";
import { type UnaryName, unary, unaryBackward } from "../reference/unary.ts";
import { where, whereBackward } from "../reference/where.ts";

/** A plain object, because names are drawn. */
const ops = { ...index };
const ARITHMETIC = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"] as const;
const COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"] as const;
const UNARY = ["neg", "exp", "tanh", "sigmoid", "relu", "square", "sin", "softplus"] as const;

/** Two shapes that broadcast with each other, and the common one. */
function pair(draw: Draw): [number[], number[]] {
  const shape = draw.shape();
  const [whole, thin] = [draw.chance(0.5) ? shape : draw.thinned(shape), draw.thinned(shape)];
  return draw.chance(0.5) ? [whole, thin] : [thin, whole];
}

property("arithmetic of random shapes that broadcast", 60, async (draw) => {
  const name = draw.pick(ARITHMETIC);
  const [sa, sb] = pair(draw);
  // Away from 0, so that quotients stay of size 1; positive for pow.
  const values = (n: number) =>
    draw.values(n).map((v) => {
      const away = Math.fround(v + (v < 0 ? -0.5 : 0.5));
      return name === "pow" ? Math.abs(away) : away;
    });
  await checkOp({
    name: `${name} [${sa}] [${sb}]`,
    run: (a, b) => ops[name](a!, b!),
    inputs: [
      { shape: sa, values: values(sizeOf(sa)) },
      { shape: sb, values: values(sizeOf(sb)) },
    ],
    forward: (a, b) => binary(name, a!, sa, b!, sb).data,
    backward: (dy, a, b) => binaryBackward(name, dy, a!, sa, b!, sb),
    K: 1500,
  });
});

property("comparisons and where, of random shapes that broadcast", 30, async (draw) => {
  const name = draw.pick(COMPARISONS);
  const [sa, sb] = pair(draw);
  const [va, vb] = [draw.fewValues(sizeOf(sa)), draw.fewValues(sizeOf(sb))];
  const dtype = draw.pick(["f32", "i32"] as const);
  const mask = ops[name](tensor(va, sa, dtype), tensor(vb, sb, dtype));
  const expected = binary(name, va, sa, vb, sb);
  equal(mask.shape, expected.shape, `${name} [${sa}] [${sb}]`);
  equal(Array.from(await mask.data()), Array.from(expected.data), `${name} [${sa}] [${sb}]`);
  const sm = draw.thinned(expected.shape);
  const choice = draw.fewValues(sizeOf(sm));
  await checkOp({
    name: `where [${sm}] [${sa}] [${sb}]`,
    run: (m, a, b) => ops.where(m!, a!, b!),
    inputs: [{ shape: sm, values: choice, grad: false }, { shape: sa }, { shape: sb }],
    forward: (m, a, b) => where(m!, a!, b!, [sm, sa, sb]).data,
    backward: (dy, m) => [null, ...whereBackward(dy, m!, [sm, sa, sb])],
    K: 1500,
  });
});

property("functions of one element, at every length of the tail", 24, async (draw) => {
  const name: UnaryName & (typeof UNARY)[number] = draw.pick(UNARY);
  const shape = draw.shape();
  await checkOp({
    name: `${name} [${shape}]`,
    run: (x) => ops[name](x!),
    inputs: [{ shape, values: draw.values(sizeOf(shape), 3) }],
    forward: (x) => unary(name, x!),
    backward: (dy, x) => [unaryBackward(name, dy, x!)],
  });
  await checkOp({
    name: `swiglu [${shape}]`,
    run: (g, u) => ops.swiglu(g!, u!),
    inputs: [{ shape, values: draw.values(sizeOf(shape), 3) }, { shape }],
    forward: (g, u) => swiglu(g!, u!),
    backward: (dy, g, u) => swigluBackward(dy, g!, u!),
  });
});

const REDUCTIONS = { sum: ops.sum, mean: ops.mean, max: ops.max, min: ops.min, var: ops.variance };

property("reductions over random sets of axes", 80, async (draw) => {
  const shape = draw.shape();
  const name = draw.pick(["sum", "mean", "max", "min", "var"] as const);
  const list = draw.shuffle(shape.map((_, i) => i)).slice(0, draw.int(0, shape.length));
  const axes = draw.chance(0.15)
    ? undefined
    : list.map((a) => (draw.chance(0.3) ? a - shape.length : a));
  const options = { keepDims: draw.chance(0.5), correction: name === "var" ? draw.int(0, 1) : 0 };
  const values = draw.chance(0.5) ? draw.fewValues(sizeOf(shape)) : draw.values(sizeOf(shape));
  const what = `${name} [${shape}] over [${axes ?? "all"}] ${JSON.stringify(options)}`;
  const reduced = (axes ?? shape.map((_, i) => i)).reduce((n, a) => n * shape.at(a)!, 1);
  const run = () => REDUCTIONS[name](tensor(values, shape), axes, options);
  const needed = name === "sum" ? 0 : name === "var" ? options.correction + 1 : 1;
  const empty =
    reduced > 0 ? sizeOf(shape) === 0 : sizeOf(reduce("sum", values, shape, axes).shape) === 0;
  if (reduced < needed && !empty) {
    throwsLike(run, "ValueError", name);
    return;
  }
  equal(run().shape, reduce(name, values, shape, axes, options).shape, what);
  await checkOp({
    name: what,
    run: (x) => REDUCTIONS[name](x!, axes, options),
    inputs: [{ shape, values }],
    forward: (x) => reduce(name, x!, shape, axes, options).data,
    backward: (dy, x) => [reduceBackward(name, dy, x!, shape, axes, options)],
    K: Math.max(reduced, 1),
  });
});

property("argmax along a random axis: the first of equals", 25, async (draw) => {
  const shape = draw.shape(1).map((n) => Math.max(n, 1));
  const values = draw.fewValues(sizeOf(shape));
  const axis = draw.chance(0.2) ? undefined : draw.int(0, shape.length - 1);
  const y = ops.argmax(tensor(values, shape), axis);
  const expected = reduce("argmax", values, shape, axis);
  equal(y.shape, expected.shape);
  equal(Array.from(await y.data()), Array.from(expected.data), `[${shape}] along ${axis}`);
});

property("permute, slice, concat and broadcastTo, to the bit", 40, async (draw) => {
  const shape = draw.shape(1);
  const axes = draw.shuffle(shape.map((_, i) => i));
  await checkOp({
    name: `permute [${shape}] by [${axes}]`,
    run: (x) => ops.permute(x!, axes),
    inputs: [{ shape }],
    forward: (x) => copy.permute(x!, shape, axes),
    backward: (dy) => [copy.permuteBackward(dy, shape, axes)],
    bound: 0,
  });
  const axis = draw.int(0, shape.length - 1);
  const start = draw.int(0, shape[axis]!);
  const end = draw.int(start, shape[axis]!);
  await checkOp({
    name: `slice [${shape}] axis ${axis} ${start}..${end}`,
    run: (x) => ops.slice(x!, axis - shape.length, start, end),
    inputs: [{ shape }],
    forward: (x) => copy.slice(x!, shape, axis, start, end),
    backward: (dy) => [copy.sliceBackward(dy, shape, axis, start, end)],
    bound: 0,
  });
  const shapes = Array.from({ length: draw.int(1, 4) }, () =>
    shape.map((n, i) => (i === axis ? draw.int(0, 5) : n)),
  );
  await checkOp({
    name: `concat ${shapes.map((s) => `[${s}]`).join(" ")} axis ${axis}`,
    run: (...list) => ops.concat(list, axis),
    inputs: shapes.map((s) => ({ shape: s })),
    forward: (...list) => copy.concat(list, shapes, axis),
    backward: (dy) => partsOf(dy, shapes, axis),
    bound: 0,
  });
  const thin = draw.thinned(shape);
  await checkOp({
    name: `broadcastTo [${thin}] to [${shape}]`,
    run: (x) => ops.broadcastTo(x!, shape),
    inputs: [{ shape: thin }],
    forward: (x) => copy.broadcastTo(x!, thin, shape),
    backward: (dy) => [copy.broadcastToBackward(dy, thin, shape)],
    K: 1500,
  });
});

/** The slices of dy that belong to the members of a concatenation. */
function partsOf(dy: Float64Array, shapes: readonly number[][], axis: number): Float64Array[] {
  const total = shapes.reduce((sum, s) => sum + s[axis]!, 0);
  const whole = shapes[0]!.map((n, i) => (i === axis ? total : n));
  let start = 0;
  return shapes.map((s) => {
    start += s[axis]!;
    return copy.slice(dy, whole, axis, start - s[axis]!, start);
  });
}

property("matmul of random batches, sizes and transposes", 50, async (draw) => {
  const lead = draw.shape(0, 3, 12);
  const [M, K, N] = [draw.size(), draw.size(), draw.size()];
  const options = { transposeA: draw.chance(0.5), transposeB: draw.chance(0.5) };
  const aShape = [...draw.thinned(lead), ...(options.transposeA ? [K, M] : [M, K])];
  const bShape = [...draw.thinned(lead), ...(options.transposeB ? [N, K] : [K, N])];
  const what = `matmul [${aShape}] [${bShape}] ${JSON.stringify(options)}`;
  await checkOp({
    name: what,
    run: (a, b) => ops.matmul(a!, b!, options),
    inputs: [{ shape: aShape }, { shape: bShape }],
    forward: (a, b) => matmul(a!, aShape, b!, bShape, options).data,
    backward: (dy, a, b) => matmulBackward(dy, a!, aShape, b!, bShape, options),
    K: Math.max(M, K, N) * Math.max(sizeOf(lead), 1),
  });
  // A frozen weight of two bytes: rows may begin in the middle of a word.
  const dtype = draw.pick(["f16", "bf16"] as const);
  const weight = ops.cast(tensor(draw.values(sizeOf(bShape)), bShape), dtype);
  const stored = Float64Array.from(await weight.data());
  const a = draw.values(sizeOf(aShape));
  const y = ops.matmul(tensor(a, aShape), weight, options);
  const expected = matmul(a, aShape, stored, bShape, options);
  equal(y.shape, expected.shape, what);
  close(await y.data(), expected.data, tolerance("f32", Math.max(K, 1)), `${what}, ${dtype}`);
});

property("linear and loraLinear of random sizes, 0 among them", 30, async (draw) => {
  const lead = draw.shape(0, 3, 40);
  const width = () => (draw.chance(0.1) ? 0 : draw.size());
  const n = { N: sizeOf(lead), in: width(), out: width(), r: draw.pick([1, 2, 5, 8]) };
  const shape = [...lead, n.in];
  const [W, bias] = [draw.values(n.out * n.in), draw.values(n.out)];
  const zeros = new Float64Array(n.r * n.in + n.out * n.r);
  const plain = (x: Float64Array, w: Float64Array, b: Float64Array) =>
    loraLinear(x, w, b, zeros, zeros, n, 0);
  await checkOp({
    name: `linear [${shape}] to ${n.out}`,
    run: (x, w, b) => ops.linear(x!, w!, b!),
    inputs: [{ shape }, { shape: [n.out, n.in] }, { shape: [n.out] }],
    forward: (x, w, b) => plain(x!, w!, b!),
    backward: (dy, x, w) => {
      const flat = [n.N, n.in];
      const both = matmulBackward(dy, x!, flat, w!, [n.out, n.in], { transposeB: true });
      return [...both, reduce("sum", dy, [n.N, n.out], [0]).data];
    },
    K: n.in + n.out + n.N + 1,
  });
  await checkOp({
    name: `loraLinear [${shape}] to ${n.out}, r ${n.r}`,
    run: (x, a, b) => ops.loraLinear(x!, tensor(W, [n.out, n.in]), tensor(bias), a!, b!),
    inputs: [{ shape }, { shape: [n.r, n.in] }, { shape: [n.out, n.r] }],
    forward: (x, a, b) => loraLinear(x!, W, bias, a!, b!, n, 1),
    backward: (dy, x, a, b) => loraLinearBackward(dy, x!, W, a!, b!, n, 1),
    K: (n.in + n.out + n.N + 1) * n.r,
  });
});

property("softmax and logSoftmax along a random axis", 30, async (draw) => {
  const shape = draw.shape(1);
  const axis = draw.int(0, shape.length - 1);
  const name = draw.pick(["softmax", "logSoftmax"] as const);
  const forward = { softmax: softmax.softmax, logSoftmax: softmax.logSoftmax };
  const backward = { softmax: softmax.softmaxBackward, logSoftmax: softmax.logSoftmaxBackward };
  await checkOp({
    name: `${name} [${shape}] along ${axis}`,
    run: (x) => ops[name](x!, axis),
    inputs: [{ shape, values: draw.values(sizeOf(shape), draw.pick([1, 10, 80])) }],
    forward: (x) => forward[name](x!, shape, axis),
    backward: (dy, x) => [backward[name](dy, x!, shape, axis)],
    K: shape[axis]! + 1,
  });
});

property("layerNorm and rmsNorm of random rows", 30, async (draw) => {
  const D = draw.pick([1, 2, 3, 4, 5, 8, 17, 33, 64, 65]);
  const shape = [...draw.shape(0, 4, 30), D];
  const rows = sizeOf(shape) / D;
  await checkOp({
    name: `layerNorm [${shape}]`,
    run: (x, w, b) => ops.layerNorm(x!, w!, b!, 0.1),
    inputs: [{ shape }, { shape: [D] }, { shape: [D] }],
    forward: (x, w, b) => layerNorm(x!, shape, w!, b!, 0.1),
    backward: (dy, x, w) => layerNormBackward(dy, x!, shape, w!, 0.1),
    K: D * Math.max(rows, 1),
  });
  await checkOp({
    name: `rmsNorm [${shape}]`,
    run: (x, w) => ops.rmsNorm(x!, w!, 0.1),
    inputs: [{ shape }, { shape: [D] }],
    forward: (x, w) => rmsNorm(x!, shape, w!, 0.1),
    backward: (dy, x, w) => rmsNormBackward(dy, x!, shape, w!, 0.1),
    K: D * Math.max(rows, 1),
  });
});

/** Indices below n, with many equals among them. */
const indices = (draw: Draw, count: number, n: number) =>
  Int32Array.from({ length: count }, () =>
    n > 1 && draw.chance(0.3) ? n - 1 : draw.int(0, n - 1),
  );

property("gather and embedding: many ids of one row", 25, async (draw) => {
  const shape = draw.shape(1, 4).map((n) => Math.max(n, 1));
  const axis = draw.int(0, shape.length - 1);
  const idShape = shape.map((n, i) => (i === axis ? draw.size() : n));
  const ids = indices(draw, sizeOf(idShape), shape[axis]!);
  await checkOp({
    name: `gather [${shape}] axis ${axis} by [${idShape}]`,
    run: (x, at) => ops.gather(x!, axis, at!),
    inputs: [{ shape }, { shape: idShape, values: ids, dtype: "i32", grad: false }],
    forward: (x) => gather(x!, shape, axis, ids, idShape),
    backward: (dy) => [gatherBackward(dy, shape, axis, ids, idShape), null],
    K: 17,
  });
  const table = [draw.int(1, 9), draw.size()] as const;
  const tokens = draw.shape(0, 3, 60);
  const at = indices(draw, sizeOf(tokens), table[0]);
  await checkOp({
    name: `embedding [${table}] by [${tokens}]`,
    run: (w, i) => ops.embedding(w!, i!),
    inputs: [{ shape: table }, { shape: tokens, values: at, dtype: "i32", grad: false }],
    forward: (w) => embedding(w!, table, at),
    backward: (dy) => [embeddingBackward(dy, table, at), null],
    K: 60,
  });
});

property("crossEntropy of random classes, some ignored", 20, async (draw) => {
  const shape = [draw.size(), draw.int(1, 40)] as const;
  const targets = indices(draw, shape[0], shape[1]).map((t) => (draw.chance(0.3) ? -100 : t));
  await checkOp({
    name: `crossEntropy [${shape}]`,
    run: (x, t) => ops.crossEntropy(x!, t!),
    inputs: [
      { shape, values: draw.values(sizeOf(shape), draw.pick([1, 50])) },
      { shape: [shape[0]], values: targets, dtype: "i32", grad: false },
    ],
    forward: (x) => crossEntropy(x!, shape, targets),
    backward: (dy, x) => [
      targets.every((t) => t < 0)
        ? new Float64Array(sizeOf(shape))
        : crossEntropyBackward(dy, x!, shape, targets),
      null,
    ],
    K: shape[1],
  });
});

property("attention of random heads and lengths", 20, async (draw) => {
  const [B, T, groups, share] = [draw.int(1, 2), draw.int(1, 9), draw.int(1, 2), draw.int(1, 3)];
  const [S, d] = [T + draw.pick([0, 0, 1, 5]), draw.pick([1, 3, 4, 6, 8, 12])];
  const q = [B, T, groups * share, d] as const;
  const kv = [B, S, groups, d] as const;
  const options = { causal: draw.chance(0.7) };
  await checkOp({
    name: `attention q [${q}], k [${kv}], ${JSON.stringify(options)}`,
    run: (a, b, c) => ops.attention(a!, b!, c!, options),
    inputs: [{ shape: q, values: draw.values(sizeOf(q), 2) }, { shape: kv }, { shape: kv }],
    forward: (a, b, c) => attention(a!, q, b!, c!, kv, options),
    backward: (dy, a, b, c) => attentionBackward(dy, a!, q, b!, c!, kv, options),
    K: S * d * share,
  });
});

runTests();
