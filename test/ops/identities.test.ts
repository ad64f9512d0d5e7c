// Identities on random shapes, which need no reference: gradients of linear ops are their adjoints,
// ⟨f(x), y⟩ = ⟨x, fᵀ(y)⟩; what is undone is the same bits; and sums, means and products agree.
import { equal, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import { parameter, tensor } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, runTests, tolerance } from "../gpu.ts";
import { type Draw, property } from "../properties.ts";

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/** Throws unless ⟨f(x), y⟩ = ⟨x, fᵀ(y)⟩, where backward computes fᵀ, for a random y. */
async function checkAdjoint(
  draw: Draw,
  what: string,
  shape: readonly number[],
  f: (x: Tensor) => Tensor,
): Promise<void> {
  using _ = scope();
  const values = draw.values(sizeOf(shape));
  const x = parameter(tensor(values, shape));
  const y = f(x);
  const dy = draw.values(y.size);
  backward(y, { gradient: tensor(dy, y.shape) });
  const forward = dot(await y.data(), dy);
  const adjoint = dot(values, await x.grad!.data());
  // Rounding grows with the size of the vectors, not with that of the product, which may cancel.
  const size = Math.sqrt(dot(values, values) * dot(dy, dy) * (y.size + x.size + 1));
  const error = Math.abs(forward - adjoint);
  ok(error <= 2 ** -22 * (1 + size), `${what}: ⟨f(x), y⟩ = ${forward}, ⟨x, fᵀ(y)⟩ = ${adjoint}`);
  x.grad?.dispose();
  x.dispose();
}

const random = (draw: Draw, shape: readonly number[]) => tensor(draw.values(sizeOf(shape)), shape);

/** A random linear function of a tensor of this shape. */
function linearFunction(draw: Draw, shape: number[]): [name: string, f: (x: Tensor) => Tensor] {
  const axis = draw.int(0, shape.length - 1);
  const n = shape[axis]!;
  const axes = draw.shuffle(shape.map((_, i) => i));
  const some = axes.slice(0, draw.int(0, axes.length));
  const [i, j] = [draw.int(0, n), draw.int(0, n)].sort((a, b) => a - b) as [number, number];
  const mask = tensor(draw.fewValues(sizeOf(shape)), shape);
  const other = random(draw, draw.thinned(shape));
  const weight = random(draw, [shape.at(-1)!, draw.size()]);
  const more = shape.length < 6 ? [draw.int(1, 3), ...shape] : shape;
  const count = draw.int(1, 3);
  return draw.pick<[string, (x: Tensor) => Tensor]>([
    [`broadcastTo [${more}]`, (x) => ops.broadcastTo(x, more)],
    [`permute [${axes}]`, (x) => ops.permute(x, axes)],
    ["reshape", (x) => ops.reshape(x, [sizeOf(shape)])],
    [`slice ${axis} ${i} ${j}`, (x) => ops.slice(x, axis, i, j)],
    ["concat with itself", (x) => ops.concat(Array<Tensor>(count).fill(x), axis)],
    [`sum [${some}]`, (x) => ops.sum(x, some)],
    ["a number minus x", (x) => ops.neg(ops.sub(0, x))],
    ["x + x", (x) => ops.add(x, x)],
    [`mul [${other.shape}]`, (x) => ops.mul(other, x)],
    ["where", (x) => ops.where(mask, x, ops.mul(x, 0.5))],
    ["matmul", (x) => ops.matmul(shape.length > 1 ? x : ops.unsqueeze(x, 0), weight)],
    ["linear", (x) => ops.linear(x, ops.transpose(weight))],
  ]);
}

property("linear ops: backward is the adjoint of forward", 100, async (draw) => {
  const shape = draw.shape(1, 6, 400);
  const [name, f] = linearFunction(draw, shape);
  await checkAdjoint(draw, `${name} of [${shape}]`, shape, f);
});

property("chains of linear ops: backward is the adjoint of forward", 30, async (draw) => {
  const shape = draw.shape(1, 4, 200);
  const names: string[] = [];
  const chain: ((x: Tensor) => Tensor)[] = [];
  let at = shape;
  for (let links = draw.int(2, 5); links > 0 && at.length > 0; links--) {
    const [name, f] = linearFunction(draw, at);
    names.push(name);
    chain.push(f);
    at = [...f(random(draw, at)).shape];
    if (sizeOf(at) > 3000) break;
  }
  const whole = (x: Tensor) => chain.reduce((y, f) => f(y), x);
  await checkAdjoint(draw, `[${shape}] ${names.join(", ")}`, shape, whole);
});

async function same(what: string, a: Tensor, b: Tensor): Promise<void> {
  equal(a.shape, b.shape, what);
  equal(await a.data(), await b.data(), what);
}

async function near(what: string, a: Tensor, b: Tensor, K: number): Promise<void> {
  equal(a.shape, b.shape, what);
  close(await a.data(), await b.data(), tolerance("f32", K), what);
}

property("what is undone is the same bits", 30, async (draw) => {
  const shape = draw.shape(1);
  const x = random(draw, shape);
  const axes = draw.shuffle(shape.map((_, i) => i));
  const inverse = axes.map((_, i) => axes.indexOf(i));
  await same(
    `permute [${shape}] by [${axes}] and back`,
    x,
    ops.permute(ops.permute(x, axes), inverse),
  );
  const axis = draw.int(0, shape.length - 1);
  const size = draw.int(1, Math.max(shape[axis]!, 1));
  const parts = ops.split(x, size, axis);
  if (parts.length > 0) await same(`split [${shape}] by ${size}`, x, ops.concat(parts, axis));
  await same("reshape and back", x, ops.reshape(ops.reshape(x, [sizeOf(shape)]), shape));
  await same("negated twice", x, ops.neg(ops.neg(x)));
  await same("x·1 + 0", x, ops.add(ops.mul(x, 1), 0));
  const y = random(draw, shape);
  const less = ops.lt(x, y);
  await same("minimum is a choice", ops.minimum(x, y), ops.where(less, x, y));
  await same("maximum is a choice", ops.maximum(x, y), ops.where(less, y, x));
  await same("a sum has no order", ops.add(x, y), ops.add(y, x));
  await same("pow 2 is a square", ops.pow(x, 2), ops.square(x));
});

property("reductions agree with each other", 30, async (draw) => {
  const shape = draw.shape(1).map((n) => Math.max(n, 1));
  const x = random(draw, shape);
  const axes = draw.shuffle(shape.map((_, i) => i)).slice(0, draw.int(1, shape.length));
  const n = axes.reduce((size, a) => size * shape[a]!, 1);
  const what = `[${shape}] over [${axes}]`;
  const K = sizeOf(shape);
  const mean = ops.mean(x, axes, { keepDims: true });
  await near(`mean ${what}`, mean, ops.div(ops.sum(x, axes, { keepDims: true }), n), K);
  const apart = ops.square(ops.sub(x, mean));
  await near(`var ${what}`, ops.variance(x, axes, { correction: 0 }), ops.mean(apart, axes), K);
  await near(`sum ${what}, then the rest`, ops.sum(ops.sum(x, axes)), ops.sum(x), K);
  await same(`min ${what}`, ops.min(x, axes), ops.neg(ops.max(ops.neg(x), axes)));
  const repeated = ops.sum(ops.broadcastTo(mean, shape), axes, { keepDims: true });
  await near(`sum of what was repeated ${what}`, repeated, ops.mul(mean, n), K);
});

property("products agree with each other", 20, async (draw) => {
  const [I, J, K, L] = [draw.size(), draw.size(), draw.size(), draw.size()];
  const lead = draw.shape(0, 2, 6);
  const [a, b, c] = [
    random(draw, [...lead, I, J]),
    random(draw, [...draw.thinned(lead), J, K]),
    random(draw, [K, L]),
  ];
  const what = `[${a.shape}] [${b.shape}] [${c.shape}]`;
  const ab = ops.matmul(a, b);
  const left = ops.matmul(ab, c);
  await near(`(ab)c = a(bc) ${what}`, left, ops.matmul(a, ops.matmul(b, c)), (J + 1) * (K + 1));
  const turned = ops.matmul(b, a, { transposeA: true, transposeB: true });
  await near(`(ab)ᵀ = bᵀaᵀ ${what}`, ops.transpose(ab), turned, J + 1);
  const rows = ops.unsqueeze(ops.transpose(b), -3);
  const spread = ops.mul(ops.unsqueeze(a, -2), rows);
  await near(`ab as a sum of products ${what}`, ab, ops.sum(spread, -1), J + 1);
  await near(`linear is matmul ${what}`, ops.linear(ab, ops.transpose(c)), left, K + 1);
});

property("softmax adds up to 1 and does not mind a shift", 20, async (draw) => {
  const shape = draw.shape(1).map((n) => Math.max(n, 1));
  const axis = draw.int(0, shape.length - 1);
  const x = tensor(draw.values(sizeOf(shape), 5), shape);
  const y = ops.softmax(x, axis);
  const what = `[${shape}] along ${axis}`;
  const ones = tensor(new Float32Array(sizeOf(shape) / shape[axis]!).fill(1));
  await near(`sum ${what}`, ops.reshape(ops.sum(y, axis), [-1]), ones, shape[axis]!);
  // 8 is a power of two: most of x + 8 is not rounded, and what is moves y by 5·2⁻²³.
  await near(`shift ${what}`, y, ops.softmax(ops.add(x, 8), axis), 4);
  await near(`exp(logSoftmax) ${what}`, y, ops.exp(ops.logSoftmax(x, axis)), 4);
});

runTests();
