// A whole LoRA training run, replayed and eager: the same bits everywhere, and nothing that grows.
import { createHash } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { equal, is, not, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { checkpoint } from "../../src/autograd/checkpoint.ts";

import { addLora } from "../../src/lora/lora.ts";
import { AdamW, clipGradNorm, cosineSchedule, Scheduler, SGD } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { capture } from "../../src/tensor/capture.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed, randomState } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

const SHAPE = [2, 11];
const tokens = (step: number, shift: number) =>
  Int32Array.from({ length: 22 }, (_, i) => ((i + shift) * 13 + 5 * step * (i + 1)) % 67);

/** Trains an adapter with dropout on tokens that change; everything that can differ afterwards. */
async function train(name: string, makes: "adamw" | "sgd", captured: boolean, steps = 9) {
  manualSeed(11);
  const model = await fromPretrained(fixtureFolder(name));
  const lora = addLora(model, { r: 4, lora_dropout: 0.25 });
  const parameters = lora.parameters();
  const half = parameters.length >> 1;
  const groups = [
    { params: parameters.slice(0, half), lr: 2e-2, weightDecay: 0.1 },
    { params: parameters.slice(half), lr: 5e-3 },
  ];
  using optimizer = makes === "adamw" ? new AdamW(groups) : new SGD(groups, { momentum: 0.9 });
  const scheduler = new Scheduler(optimizer, cosineSchedule(2, steps));
  const [ids, targets] = [tensor(tokens(0, 0), SHAPE), tensor(tokens(0, 1), SHAPE)];
  const run = (ids: Tensor, targets: Tensor) => {
    const loss = model.loss(ids, targets);
    backward(loss);
    const norm = clipGradNorm(optimizer, 0.05);
    optimizer.step();
    optimizer.zeroGrad();
    scheduler.step();
    return { loss, norm };
  };
  const step = captured ? capture(run) : run;
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    using _ = scope();
    ids.set(tokens(i, 0));
    targets.set(tokens(i, 1));
    const { loss, norm } = step(ids, targets);
    losses.push(await loss.item(), await norm.item());
  }
  const digest = createHash("sha256");
  const state = optimizer.stateDict();
  for (const t of [...parameters, ...state.tensors.values()]) digest.update(await t.rawBytes());
  model.dispose();
  const rates = optimizer.groups.map((group) => group.lr);
  const { steps: taken } = scheduler;
  const counts = { step: state.step, taken, rates, random: randomState() };
  return { losses, bits: digest.digest("hex"), counts };
}

for (const name of ["llama-tiny", "gpt2-tiny"]) {
  for (const optimizer of ["adamw", "sgd"] as const) {
    gpuTest(`${name}, ${optimizer}: replay and eager give the same bits`, async () => {
      const eager = await train(name, optimizer, false);
      equal(await train(name, optimizer, true), eager);
      is(eager.counts.step, 9);
      not.equal(eager.losses[0], eager.losses[2]);
    });
  }
}

gpuTest("checkpointed layers draw the same masks again in each replay", async () => {
  const run = async (captured: boolean) => {
    manualSeed(3);
    const model = await fromPretrained(fixtureFolder("llama-tiny"));
    const lora = addLora(model, { r: 2, lora_dropout: 0.3 });
    using optimizer = new AdamW(lora.parameters(), { lr: 1e-2 });
    const [ids, targets] = [tensor(tokens(0, 0), SHAPE), tensor(tokens(0, 1), SHAPE)];
    const fn = () => {
      const loss = checkpoint(() => model.loss(ids, targets));
      backward(loss);
      optimizer.step();
      optimizer.zeroGrad();
      return loss;
    };
    const step = captured ? capture(fn) : fn;
    const losses: number[] = [];
    for (let i = 0; i < 6; i++) {
      using _ = scope();
      losses.push(await step().item());
    }
    model.dispose();
    return { losses, random: randomState() };
  };
  equal(await run(true), await run(false));
});

gpuTest("replayed steps grow neither GPU memory nor the heap of JavaScript", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  const lora = addLora(model, { r: 4, lora_dropout: 0.1 });
  using optimizer = new AdamW(lora.parameters(), { lr: 1e-3 });
  const [ids, targets] = [tensor(tokens(0, 0), SHAPE), tensor(tokens(0, 1), SHAPE)];
  using step = capture((ids: Tensor, targets: Tensor) => {
    const loss = model.loss(ids, targets);
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  const steps = async (n: number) => {
    for (let i = 0; i < n; i++) {
      using _ = scope();
      ids.set(tokens(i, 0));
      await step(ids, targets).item();
    }
    // What earlier tests left is given back by finalizers, some turns of the event loop after a collection.
    for (let turn = 0; turn < 3; turn++) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return process.memoryUsage().heapUsed;
  };
  // V8 drops compiled code now and then and makes it anew, a quarter of a megabyte: the lowest of a few counts.
  const look = async () => {
    const heaps = [await steps(30), await steps(30), await steps(30), await steps(30)];
    const { tensorsLive, buffersLive, bytesLive, bytesReserved, bytesPeak } = theGpu().stats();
    const gpu = [tensorsLive, buffersLive, bytesLive, bytesReserved, bytesPeak];
    return { gpu, heap: Math.min(...heaps) };
  };
  await steps(60); // until V8 has compiled what it will compile
  const before = await look();
  const after = await look();
  equal(after.gpu, before.gpu);
  ok(after.heap - before.heap < 100_000, `the heap grew by ${after.heap - before.heap} bytes`);
  model.dispose();
});

gpuTest("learning rates are set outside; a step is not captured without its clipping", async () => {
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  using optimizer = new AdamW(addLora(model, { r: 2 }).parameters());
  const inside = capture(() => {
    optimizer.lr = 1;
  });
  throwsLike(inside, "CaptureError", "AdamW: setting lr must be outside of a captured function");
  is(optimizer.lr, 1e-3);
  using step = capture(() => optimizer.step());
  step();
  step();
  clipGradNorm(optimizer, 1);
  throwsLike(step, "CaptureError", "AdamW: step() must be as when it was captured, without clip");
  is(optimizer.steps, 2);
  model.dispose();
});

gpuTest("what freezes a number that differs from call to call is refused", async () => {
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  using cache = model.newCache(2, 40);
  const ids = tensor(tokens(0, 0), SHAPE);
  const grows = capture(() => model.call(ids, cache));
  throwsLike(
    grows,
    "CaptureError",
    "KVCache: adding tokens must be outside of a captured function",
  );
  model.dispose();
});

runTests();
