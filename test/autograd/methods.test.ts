// Every fluent name is the function of that name: same bits, same gradients.
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { detach } from "../../src/autograd/grad.ts";
import { functionsOnly, type Methods } from "../../src/autograd/methods.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import * as front from "../../src/index.ts";
import { parameter, tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, randomValues, runTests } from "../gpu.ts";

/** Positive, so that logarithms and roots exist. */
const positive = (n: number, seed: number) => randomValues(n, seed).map((v) => 0.1 + Math.abs(v));
const x = () => parameter(tensor(positive(12, 1), [3, 4]));
const other = () => parameter(tensor(positive(4, 2), [4]));
const ids = (rows: number, columns: number) =>
  tensor(
    Int32Array.from({ length: rows * columns }, (_, i) => i % 3),
    [rows, columns],
  );

/** What follows x, for the methods that need something, made anew for each call. */
const ARGUMENTS: { [K in keyof Methods]?: () => Parameters<Methods[K]> } = {
  add: () => [other()],
  argmax: () => [1, { keepDims: true }],
  broadcastTo: () => [[2, 3, 4]],
  cast: () => ["f32"],
  chunk: () => [2, 1],
  clamp: () => [0.3, 0.8],
  div: () => [other()],
  dropout: () => [0.5],
  eq: () => [other()],
  gather: () => [0, ids(2, 4)],
  ge: () => [other()],
  gelu: () => ["tanh"],
  gt: () => [0.5],
  indexSelect: () => [ids(2, 3)],
  le: () => [other()],
  logSoftmax: () => [0],
  lt: () => [other()],
  matmul: () => [parameter(tensor(positive(8, 3), [2, 4])), { transposeB: true }],
  max: () => [[1]],
  maximum: () => [other()],
  mean: () => [0, { keepDims: true }],
  min: () => [-1],
  minimum: () => [0.5],
  mul: () => [other()],
  ne: () => [other()],
  permute: () => [[1, 0]],
  pow: () => [other()],
  reshape: () => [[2, -1]],
  slice: () => [1, 1, 3],
  softmax: () => [0],
  split: () => [[1, 3], 1],
  sub: () => [other()],
  sum: () => [[1], { keepDims: true }],
  transpose: () => [0, 1],
  unsqueeze: () => [1],
  var: () => [[1], { correction: 0 }],
};

/** Methods whose function has another name or order. */
const RENAMED: Record<string, (x: Tensor, ...rest: never[]) => unknown> = {
  var: ops.variance,
  where: (x: Tensor, mask: Tensor, other: Tensor) => ops.where(mask, x, other),
};

/** The methods that every op of the index should have. */
const NAMES = Object.keys(ops).filter((name) => !(name in functionsOnly) && name !== "where");

type Call = (x: Tensor, ...rest: unknown[]) => Tensor | Tensor[];

/** The bits of the results, and of the gradients of x and of the arguments. */
async function outcome(call: Call, rest: unknown[]): Promise<Uint8Array[]> {
  manualSeed(7);
  const leaf = x();
  const made = call(leaf, ...rest);
  const results = Array.isArray(made) ? made : [made];
  results.forEach((y, i) => {
    if (y.requiresGrad) backward(y, { gradient: tensor(randomValues(y.size, 9 + i), y.shape) });
  });
  const leaves = [leaf, ...rest.filter((t) => t instanceof Tensor)];
  const grads = leaves.flatMap((t) => (t.grad ? [t.grad] : []));
  return Promise.all([...results, ...grads].map((t) => t.rawBytes()));
}

const method =
  (name: string): Call =>
  (x, ...rest) =>
    (x as unknown as Record<string, (...rest: unknown[]) => Tensor>)[name]!(...rest);

const without = new Set(["argmax", "eq", "ne", "lt", "le", "gt", "ge"]);

for (const name of [...NAMES, "var"]) {
  gpuTest(`x.${name}(…) is ${name}(x, …), gradients too`, async () => {
    const call = RENAMED[name] ?? (ops as unknown as Record<string, Call>)[name];
    const rest = ARGUMENTS[name as keyof Methods] ?? (() => []);
    const fluent = await outcome(method(name), rest());
    equal(fluent, await outcome(call as Call, rest()));
    ok(without.has(name) || fluent.length > 1, "no gradient came");
  });
}

gpuTest("x.where(mask, y) keeps x where the mask holds", async () => {
  const rest = () => [tensor([0, 1, 1, 0], [4], "u32"), other()];
  equal(await outcome(method("where"), rest()), await outcome(RENAMED.where as Call, rest()));
  const y = tensor([1, 2, 3]).where(tensor([1, 0, 1], [3], "u32"), 9);
  equal(Array.from(await y.data()), [1, 9, 3]);
});

gpuTest("x.backward() and x.detach()", async () => {
  const a = x();
  const b = x();
  a.mul(a).sum().backward();
  backward(ops.sum(ops.mul(b, b)));
  equal(await a.grad!.rawBytes(), await b.grad!.rawBytes());
  const y = a.mul(2);
  y.backward({ gradient: tensor(positive(12, 4), [3, 4]) });
  const cut = a.mul(2).detach();
  is(cut.requiresGrad, false);
  equal(await cut.data(), await detach(y).data());
});

gpuTest("a chain reads as PyTorch's does", async () => {
  const q = parameter(tensor(randomValues(24, 5), [2, 3, 4]));
  const y = q
    .matmul(q.transpose())
    .div(2)
    .softmax(-1)
    .matmul(q)
    .permute([1, 0, 2])
    .reshape([3, -1]);
  equal(y.shape, [3, 8]);
  y.pow(2).mean().backward();
  equal(q.grad!.shape, [2, 3, 4]);
});

gpuTest("every op is a method, or is listed with the reason why not", () => {
  for (const name of Object.keys(ops)) {
    is(name in Tensor.prototype, !(name in functionsOnly), name);
  }
  for (const name of Object.keys(functionsOnly)) ok(name in ops, `${name} is no op`);
  for (const name of Object.keys(ARGUMENTS)) ok(name in Tensor.prototype, name);
  is(Object.keys(Tensor.prototype).length, 0, "methods are not enumerable");
  is(front.Tensor, Tensor, "the front door hands out the class that has the methods");
});

runTests();

// The compiler's part: a method takes exactly what the function takes after its first tensor.
type Rest<F> = F extends (x: Tensor, ...rest: infer R) => unknown ? R : never;
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
type Named = Exclude<keyof Methods & keyof typeof ops, "where">;
type Agree = { [K in Named]: Same<Parameters<Methods[K]>, Rest<(typeof ops)[K]>> };
export const agree: false extends Agree[Named] ? never : true = true;
