import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { add, gelu, mul, sum } from "../../src/autograd/ops/index.ts";
import {
  AdamW,
  clipGradNorm,
  constantSchedule,
  cosineSchedule,
  linearSchedule,
  Scheduler,
  SGD,
} from "../../src/nn/optim/index.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, randomValues, runTests, theGpu, throwsLike } from "../gpu.ts";
import { adamw } from "../reference/adamw.ts";
import { clipGradNorm as clipReference } from "../reference/clip_grad_norm.ts";

const SHAPES = [[1], [3, 5], [64], [7, 11], [0, 4], [129]];

function parameters(seed = 1): Tensor[] {
  return SHAPES.map((shape, i) => parameter(tensor(randomValues(size(shape), seed + i), shape)));
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Gives every parameter the gradient x · (its numbers of this seed). */
function backwardThrough(list: readonly Tensor[], seed: number): void {
  using _ = scope();
  for (const [i, p] of list.entries()) {
    backward(sum(mul(p, tensor(randomValues(p.size, 50 * seed + i), p.shape))));
  }
}

const read = async (list: readonly Tensor[]) =>
  Promise.all(list.map(async (t) => [...(await t.data())]));

function freeAll(list: readonly Tensor[]): void {
  for (const p of list) {
    p.grad?.dispose();
    p.dispose();
  }
}

gpuTest("arena: packing keeps every bit, shape and gradient", async () => {
  const list = parameters();
  const before = await read(list);
  backward(sum(list[1]!));
  using optimizer = new AdamW(list, { lr: 0.1 });
  equal(await read(list), before);
  equal(
    list.map((p) => p.shape),
    SHAPES,
  );
  ok(
    list.every((p) => p.storage.byteOffset % 256 === 0),
    "slices are aligned",
  );
  is(new Set(list.map((p) => p.storage.block)).size, 1, "parameters share a buffer");
  is(new Set(list.map((p) => p.grad!.storage.block)).size, 1, "gradients share a buffer");
  equal([...(await list[1]!.grad!.data())], Array(15).fill(1), "a gradient from before is kept");
  equal([...(await list[2]!.grad!.data())], Array(64).fill(0));
  optimizer.dispose();
  equal(await read(list), before);
  freeAll(list);
});

gpuTest("arena: backward accumulates in place, zeroGrad keeps p.grad bound", async () => {
  const list = parameters();
  using optimizer = new SGD(list, { lr: 1 });
  const grads = list.map((p) => p.grad);
  backwardThrough(list, 1);
  const once = await read(list.map((p) => p.grad!));
  backwardThrough(list, 1);
  const twice = await read(list.map((p) => p.grad!));
  equal(
    twice,
    once.map((g) => g.map((x) => 2 * x)),
  );
  ok(
    list.every((p, i) => p.grad === grads[i]),
    "p.grad is the same tensor",
  );
  optimizer.zeroGrad();
  ok(
    list.every((p, i) => p.grad === grads[i]),
    "p.grad is the same tensor",
  );
  ok((await read(list.map((p) => p.grad!))).flat().every((x) => x === 0));
  freeAll(list);
});

gpuTest("arena: a gradient that was set to null or replaced finds its way back", async () => {
  const [a, b, c] = [1, 2, 3].map((x) => parameter(tensor([x, x]))) as [Tensor, Tensor, Tensor];
  using optimizer = new SGD([a, b, c], { lr: 1 });
  backwardThrough([a, b, c], 1);
  optimizer.zeroGrad();
  a.grad?.dispose(); // as Module.zeroGrad() does
  a.grad = null;
  b.grad = null; // and no gradient arrives
  c.grad = tensor([10, 20]).persist();
  backward(sum(a));
  optimizer.step();
  equal(await read([a, b, c]), [
    [0, 0],
    [2, 2],
    [-7, -17],
  ]);
  equal(await read([a.grad!, b.grad!, c.grad!]), [
    [1, 1],
    [0, 0],
    [10, 20],
  ]);
  is(new Set([a, b, c].map((p) => p.grad!.storage.block)).size, 1);
  freeAll([a, b, c]);
});

gpuTest("AdamW: ten steps of two groups against float64", async () => {
  const list = parameters(7);
  const settings = [
    { lr: 0.01, weightDecay: 0.1 },
    { lr: 0.03, weightDecay: 0 },
  ];
  const groups = [
    { params: list.slice(0, 3), ...settings[0]! },
    { params: list.slice(3), lr: settings[1]!.lr },
  ];
  using optimizer = new AdamW(groups, { lr: 5, weightDecay: 0 });
  let expected: ReturnType<typeof adamw>[] = list.map((p, i) => ({
    parameter: randomValues(p.size, 7 + i),
    m: new Float64Array(p.size),
    v: new Float64Array(p.size),
  }));
  for (let step = 1; step <= 10; step++) {
    backwardThrough(list, step);
    expected = expected.map(({ parameter, m, v }, i) =>
      adamw(
        parameter,
        randomValues(parameter.length, 50 * step + i),
        m,
        v,
        step,
        settings[i < 3 ? 0 : 1]!,
      ),
    );
    optimizer.step();
    optimizer.zeroGrad();
  }
  for (const [i, p] of list.entries()) {
    close(await p.data(), expected[i]!.parameter, 4e-6, `parameter ${i}`);
  }
  freeAll(list);
});

for (const make of [
  (list: Tensor[]) => new AdamW(list, { lr: 0.02, weightDecay: 0.1 }),
  (list: Tensor[]) => new SGD(list, { lr: 0.02, momentum: 0.9, nesterov: true }),
]) {
  gpuTest("a saved state continues bit for bit", async () => {
    const first = parameters(3);
    using one = make(first);
    const go = (list: Tensor[], optimizer: AdamW | SGD, from: number, to: number) => {
      for (let step = from; step < to; step++) {
        backwardThrough(list, step);
        optimizer.step();
        optimizer.zeroGrad();
      }
    };
    go(first, one, 0, 3);
    const second = first.map((p) => parameter(p.clone()));
    const { step, tensors } = one.stateDict();
    const saved = new Map([...tensors].map(([name, t]) => [name, t.clone()]));
    is(step, 3);
    go(first, one, 3, 6);
    using two = make(second);
    two.loadStateDict({ step, tensors: saved });
    go(second, two, 3, 6);
    equal(await read(second), await read(first));
    two.loadStateDict(two.stateDict());
    freeAll([...first, ...second]);
  });
}

gpuTest("loadStateDict: refuses what does not fit, and changes nothing", async () => {
  const p = parameter(tensor([1, 2, 3]));
  using optimizer = new AdamW([p]);
  const { tensors } = optimizer.stateDict();
  equal([...tensors.keys()], ["0.exp_avg", "0.exp_avg_sq"]);
  const wrong = new Map([
    ["0.exp_avg", tensor([1, 1, 1])],
    ["0.exp_avg_sq", zeros([2])],
    ["1.exp_avg", zeros([3])],
  ]);
  throwsLike(
    () => optimizer.loadStateDict({ step: -1, tensors: wrong }),
    "FormatError",
    "AdamW: the state does not fit: step is -1",
    "0.exp_avg_sq is f32[2], expected f32[3]",
    "unknown 1.exp_avg",
    "Nothing was changed",
  );
  throwsLike(
    () => optimizer.loadStateDict({ step: 1, tensors: new Map() }),
    "FormatError",
    "missing 0.exp_avg",
  );
  equal([...(await tensors.get("0.exp_avg")!.data())], [0, 0, 0]);
  is(optimizer.steps, 0);
  freeAll([p]);
});

gpuTest("a learning rate of 0 changes no bit", async () => {
  const list = parameters(9);
  const before = await read(list);
  using optimizer = new AdamW(list, { lr: 0, weightDecay: 0.5 });
  backwardThrough(list, 1);
  optimizer.step();
  equal(await read(list), before);
  freeAll(list);
});

gpuTest("a tied parameter is packed once and gets both gradients", async () => {
  const p = parameter(tensor([1, 2]));
  using optimizer = new SGD([p, p], { lr: 1 });
  backward(sum(add(p, mul(p, tensor([10, 20])))));
  optimizer.step();
  equal([...(await p.data())], [1 - 11, 2 - 21]);
  is(optimizer.stateDict().tensors.size, 0);
  freeAll([p]);
});

gpuTest("clipGradNorm: of an optimiser in its next step, of a list at once", async () => {
  const values = [randomValues(5, 1, 3), randomValues(70, 2, 3)];
  const gradients = [randomValues(5, 3, 3), randomValues(70, 4, 3)];
  const { norm, gradients: clipped } = clipReference(gradients, 0.5);
  const make = () => values.map((x) => parameter(tensor(x)));
  const [packed, loose] = [make(), make()];
  using optimizer = new SGD(packed, { lr: 1 });
  for (const list of [packed, loose]) {
    for (const [i, p] of list.entries()) backward(p, { gradient: tensor(gradients[i]!) });
  }
  close([await clipGradNorm(optimizer, 0.5).item()], [norm], 1e-6, "norm");
  close(await packed[1]!.grad!.data(), gradients[1]!, 0, "p.grad stays");
  optimizer.step();
  for (const [i, p] of packed.entries()) {
    close(
      await p.data(),
      values[i]!.map((x, j) => x - clipped[i]![j]!),
      2e-6,
      "a clipped step",
    );
  }
  optimizer.step(); // the factor holds for one step
  const twice = values[1]!.map((x, j) => x - clipped[1]![j]! - gradients[1]![j]!);
  close(await packed[1]!.data(), twice, 2e-6, "a step without clipping");
  close([await clipGradNorm(loose, 0.5).item()], [norm], 1e-6, "norm");
  close(await loose[1]!.grad!.data(), clipped[1]!, 2e-6, "clipped in place");
  throwsLike(
    () => clipGradNorm(loose, 0),
    "ValueError",
    "clip_grad_norm: maxNorm must be above 0, got 0",
  );
  freeAll([...packed, ...loose]);
});

gpuTest("autograd notices a step between forward and backward", () => {
  const p = parameter(tensor([1, 2]));
  using optimizer = new SGD([p], { lr: 1 });
  const y = sum(gelu(p));
  backward(y, { retainGraph: true });
  optimizer.step();
  throwsLike(() => backward(y), "GradError", "gelu backward", "written in place");
  freeAll([p]);
});

gpuTest("schedules and Scheduler", () => {
  const p = parameter(tensor([1]));
  equal([0, 1, 4, 9].map(constantSchedule(4)), [0, 0.25, 1, 1]);
  equal([0, 2, 6, 10, 11].map(linearSchedule(2, 10)), [0, 1, 0.5, 0, 0]);
  close([0, 2, 6, 10].map(cosineSchedule(2, 10)), [0, 1, 0.5, 0], 1e-15, "cosine");
  using optimizer = new SGD([{ params: [p], lr: 0.5 }], { lr: 1 });
  const scheduler = new Scheduler(optimizer, linearSchedule(0, 4), 1);
  is(optimizer.lr, 0.375);
  scheduler.step();
  is(optimizer.lr, 0.25);
  is(scheduler.steps, 2);
  freeAll([p]);
});

gpuTest("optimisers: refuse what they cannot train", () => {
  const [p, q] = [parameter(tensor([1, 2])), parameter(tensor([3]))] as const;
  const [frozen, result] = [tensor([1]), gelu(p)];
  const bytes = theGpu().stats().bytesLive;
  throwsLike(
    () => new AdamW([]),
    "ValueError",
    "AdamW: the parameters must be at least one, got none",
  );
  throwsLike(
    () => new AdamW([p, frozen]),
    "ValueError",
    "AdamW: parameter 1 must be trainable, got a frozen one",
  );
  throwsLike(
    () => new SGD([result]),
    "ValueError",
    "SGD: parameter 0 must be a leaf, got the result of gelu",
  );
  const twice = [{ params: [p] }, { params: [q, p] }];
  throwsLike(
    () => new AdamW(twice),
    "ValueError",
    "parameter 1 of group 1 must be in one group, got one of group 0 too",
  );
  const view = parameter(p.view([2, 1]));
  throwsLike(
    () => new AdamW([p, view]),
    "ValueError",
    "parameter 1 must be in memory of its own, got a view",
  );
  throwsLike(
    () => new AdamW([p], { lr: -1 }),
    "ValueError",
    "AdamW: lr must be a number of at least 0, got -1",
  );
  throwsLike(
    () => new AdamW([p], { betas: [0.9, 1] }),
    "ValueError",
    "betas must be numbers in [0, 1), got 1",
  );
  throwsLike(() => new AdamW([p], { eps: 0 }), "ValueError", "eps must be a number above 0, got 0");
  throwsLike(() => new SGD([p], { weightDecay: Number.NaN }), "ValueError", "weightDecay must be");
  throwsLike(
    () => new SGD([p], { nesterov: true }),
    "ValueError",
    "momentum must be above 0 with nesterov",
  );
  view.dispose();
  is(theGpu().stats().bytesLive, bytes, "a refusal allocates nothing");
  using older = new SGD([p], { lr: 1 });
  throwsLike(
    () => {
      older.lr = Number.NaN;
    },
    "ValueError",
    "SGD: lr must be",
  );
  is(older.lr, 1);
  using _newer = new SGD([p], { lr: 1 });
  throwsLike(
    () => older.step(),
    "ValueError",
    "SGD: a parameter must be in this optimiser's memory",
  );
  freeAll([p, q]);
});

gpuTest("optimisers: dispose frees gradients and state, and training leaks nothing", async () => {
  const gpu = theGpu();
  const before = gpu.stats();
  {
    using _ = scope();
    const list = parameters(5);
    const optimizer = new AdamW(list, { lr: 0.1 });
    const during = gpu.stats();
    for (let i = 0; i < 5; i++) {
      backwardThrough(list, i);
      using inner = scope();
      inner.add(clipGradNorm(optimizer, 1).persist());
      optimizer.step();
      optimizer.zeroGrad();
    }
    equal(
      { ...gpu.stats(), dispatches: 0, submits: 0, bytesPeak: 0, bytesReserved: 0 },
      {
        ...during,
        dispatches: 0,
        submits: 0,
        bytesPeak: 0,
        bytesReserved: 0,
      },
    );
    optimizer.dispose();
    ok(
      list.every((p) => p.grad === null),
      "p.grad is null again",
    );
    is(gpu.stats().buffersLive, before.buffersLive + 1, "the parameters' buffer is left");
    freeAll(list);
  }
  is(gpu.stats().bytesLive, before.bytesLive);
  is(gpu.stats().tensorsLive, before.tensorsLive);
  await gpu.sync();
});

runTests();
