// Every op against PyTorch itself: test/fixtures/ops.json lists the cases, ops.safetensors holds the
// numbers, which scripts/fixtures/ops.py wrote. The float64 references are ours; these are not.
import { readFileSync } from "node:fs";
import { equal, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import { ropeTables } from "../../src/kernels/rope.ts";
import { parameter } from "../../src/tensor/create.ts";
import { loadSafetensors } from "../../src/tensor/safetensors_file.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, tolerance } from "../gpu.ts";

interface Case {
  op: string;
  case: string;
  /** Names of the inputs, in order, and of those that have a gradient. */
  inputs: string[];
  grads: string[];
  // biome-ignore lint/suspicious/noExplicitAny: each op has its own arguments
  args: any;
}

type Run = (inputs: [Tensor, Tensor, Tensor, Tensor], args: Case["args"]) => Tensor;

const one =
  (f: (x: Tensor) => Tensor): Run =>
  ([x]) =>
    f(x);
const two =
  (f: (a: Tensor, b: Tensor) => Tensor): Run =>
  ([a, b]) =>
    f(a, b);
const over =
  (f: (x: Tensor, axes?: readonly number[], options?: object) => Tensor): Run =>
  ([x], { axes, correction, keepdims: keepDims = false }) =>
    f(x, axes, { keepDims, ...(correction === undefined ? {} : { correction }) });

const RUN: Record<string, Run> = {
  abs: one(ops.abs),
  add: two(ops.add),
  attention: ([q, k, v], options) => ops.attention(q, k, v, options),
  clamp: ([x], { min, max }) => ops.clamp(x, min, max),
  cos: one(ops.cos),
  cross_entropy: ([logits, targets], options) => ops.crossEntropy(logits, targets, options),
  div: two(ops.div),
  embedding: two(ops.embedding),
  exp: one(ops.exp),
  gather: ([x, ids], { axis }) => ops.gather(x, axis, ids),
  gelu: ([x], { approximate }) => ops.gelu(x, approximate),
  layer_norm: ([x, weight, bias], { eps }) => ops.layerNorm(x, weight, bias, eps),
  linear: ([x, weight, bias]) => ops.linear(x, weight, bias),
  linear_cross_entropy: ([x, weight, bias, targets], options) =>
    ops.linearCrossEntropy(x, weight, bias, targets, options),
  log: one(ops.log),
  log_softmax: ([x], { axis }) => ops.logSoftmax(x, axis),
  matmul: ([a, b], options) => ops.matmul(a, b, options),
  max: over(ops.max),
  maximum: two(ops.maximum),
  mean: over(ops.mean),
  min: over(ops.min),
  minimum: two(ops.minimum),
  mul: two(ops.mul),
  neg: one(ops.neg),
  pow: ([a, b], { exponent }) => ops.pow(a, exponent ?? b),
  relu: one(ops.relu),
  rms_norm: ([x, weight], { eps }) => ops.rmsNorm(x, weight, eps),
  rope: ([x], { theta, offset }) => {
    const { cos, sin } = ropeTables(offset + x.shape[1]!, x.shape[3]!, theta);
    return ops.rope(x, cos, sin, { offset });
  },
  rsqrt: one(ops.rsqrt),
  sigmoid: one(ops.sigmoid),
  silu: one(ops.silu),
  sin: one(ops.sin),
  softmax: ([x], { axis }) => ops.softmax(x, axis),
  sqrt: one(ops.sqrt),
  square: one(ops.square),
  sub: two(ops.sub),
  sum: over(ops.sum),
  swiglu: two(ops.swiglu),
  tanh: one(ops.tanh),
  var: over(ops.variance),
  where: ([mask, a, b]) => ops.where(mask, a, b),
};

const cases: Case[] = JSON.parse(readFileSync(fixtureFolder("ops.json"), "utf8"));
const names = [...new Set(cases.map((c) => c.op))].sort();

async function check(c: Case, tensors: Map<string, Tensor>): Promise<void> {
  const prefix = `${c.op}.${c.case}`;
  const get = (key: string) => tensors.get(`${prefix}.${key}`)!;
  const inputs = c.inputs.map((name) => {
    const t = get(`input.${name}`);
    return c.grads.includes(name) ? parameter(t) : t;
  });
  const y = RUN[c.op]!(inputs as [Tensor, Tensor, Tensor, Tensor], c.args);
  // No sum in these cases is longer than the largest input.
  const bound = tolerance("f32", Math.max(...inputs.map((x) => x.shape.at(-1) ?? 1)));
  equal(y.shape, get("output.y").shape, `${prefix}: shape`);
  close(await y.data(), await get("output.y").data(), bound, `${prefix}: y`);
  backward(y, { gradient: get("input.dy") });
  for (const name of c.grads) {
    const dx = inputs[c.inputs.indexOf(name)]!.grad;
    ok(dx, `${prefix}: ${name} got no gradient`);
    close(await dx.data(), await get(`grad.${name}`).data(), 2 * bound, `${prefix}: d${name}`);
  }
  for (const x of inputs.filter((x) => x.requiresGrad)) {
    x.grad?.dispose();
    x.dispose();
  }
}

gpuTest("the table of this test holds the ops of the fixture, no more, no fewer", () => {
  equal(Object.keys(RUN).sort(), names);
});

for (const name of names) {
  gpuTest(`${name}: values and gradients equal PyTorch's`, async () => {
    const tensors = await loadSafetensors(fixtureFolder("ops.safetensors"));
    for (const c of cases.filter((c) => c.op === name)) await check(c, tensors);
    for (const t of tensors.values()) t.dispose();
  });
}

runTests();
