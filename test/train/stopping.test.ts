// When fit ends: patience with the best weights, limits, a signal.
import { equal, is, not, ok } from "uvu/assert";
import { addLora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import type { FitOptions, FitResult } from "../../src/train/fit_options.ts";
import { Windows } from "../../src/train/windows.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

const text = Uint8Array.from({ length: 400 }, (_, i) => (i * i + 3 * i) % 67);
const train = new Windows(text, 11);
/** Text of another kind: learning `text` by heart makes it less likely in the end. */
const other = new Windows(
  Uint8Array.from({ length: 120 }, (_, i) => (7 * i + (i % 5)) % 67),
  11,
);
const base = { train, steps: 30, batch: 2, lr: 3e-2, schedule: "constant" } as const;

async function run(change: Partial<FitOptions>, see?: (model: CausalLM, r: FitResult) => unknown) {
  manualSeed(3);
  using model = await fromPretrained(fixtureFolder("llama-tiny"));
  addLora(model, { r: 4, lora_dropout: 0.1, target_modules: "all-linear" });
  const result = await fit(model, { ...base, ...change });
  await see?.(model, result);
  const weights: number[] = [];
  for (const p of model.trainableParameters()) weights.push(...(await p.data()));
  return { ...result, weights };
}

gpuTest("T3 patience: training ends, and the model has the weights of the best look", async () => {
  const validate = { rows: other, every: 2, patience: 3 };
  const stopped = await run({ validate }, async (model, { best }) => {
    is(
      (await evaluate(model, other, { batch: 2, most: 32 })).loss,
      best!.loss,
      "the loss of the best",
    );
  });
  is(stopped.stopped, "patience");
  const { best, valid } = stopped;
  const lowest = Math.min(...valid.map(({ loss }) => loss));
  is(best!.loss, lowest);
  equal(valid.at(-1)!.step, best!.step + 6, "three looks in vain");
  ok(stopped.losses.length < 30);
  ok(best!.step < stopped.losses.length);
  const shorter = await run({ limits: { steps: best!.step } });
  equal(stopped.weights, shorter.weights, "not the last weights");
});

gpuTest(
  "without patience the last weights stay; with a large minDelta the first look is best",
  async () => {
    const looking = await run({ steps: 8, validate: { rows: other, every: 2 } });
    const blind = await run({ steps: 8 });
    equal([looking.best, looking.stopped, blind.stopped], [null, "steps", "steps"]);
    equal(looking.weights, blind.weights);
    const validate = { rows: other, every: 2, patience: 2, minDelta: 1e9 };
    const strict = await run({ steps: 8, validate });
    equal([strict.best!.step, strict.losses.length, strict.stopped], [2, 6, "patience"]);
  },
);

gpuTest("limits of steps and time end the call, not the schedule", async () => {
  const half = await run({ schedule: "cosine", limits: { steps: 5 } });
  const all = await run({ schedule: "cosine" });
  equal([half.stopped, half.losses.length], ["limit", 5]);
  equal(half.losses, all.losses.slice(0, 5));
  const late = await run({ limits: { seconds: 1e-9 } });
  equal([late.stopped, late.losses], ["limit", []]);
  not.equal(half.weights, all.weights);
  const until = await run({ schedule: "cosine", limits: { until: 5 } });
  equal([until.stopped, until.weights], ["limit", half.weights]);
});

gpuTest("a signal ends training after the step that runs; nothing is left behind", async () => {
  const before = theGpu().stats().tensorsLive;
  const controller = new AbortController();
  const onStep = ({ step }: { step: number }) => {
    if (step === 4) controller.abort();
  };
  const cut = await run({ signal: controller.signal, onStep });
  const four = await run({ limits: { steps: 4 } });
  equal([cut.stopped, cut.losses], ["aborted", four.losses]);
  equal(cut.weights, four.weights);
  const never = await run({ signal: AbortSignal.abort() });
  equal([never.stopped, never.losses], ["aborted", []]);
  ok(theGpu().stats().tensorsLive <= before + 20, "tables of the model at most");
});

runTests();
