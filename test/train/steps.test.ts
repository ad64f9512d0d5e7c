// A step of fit: micro-batches, schedules, decay, the norm and the smoothed loss that it tells, bad numbers.
import { equal, is, match, not, ok } from "uvu/assert";
import { mul, sum } from "../../src/autograd/ops/index.ts";
import { addLora } from "../../src/lora/lora.ts";
import { loraPlusGroups } from "../../src/lora/lora_plus.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import {
  AdamW,
  cosineSchedule,
  decayGroups,
  linearSchedule,
  scheduleOf,
} from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { fit } from "../../src/train/fit.ts";
import type { FitOptions, FitProgress } from "../../src/train/fit_options.ts";
import type { TrainingRows } from "../../src/train/rows.ts";
import { TrainStep } from "../../src/train/train_step.ts";
import { Windows } from "../../src/train/windows.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, throwsLike } from "../gpu.ts";

const text = Uint8Array.from({ length: 400 }, (_, i) => (i * i + 3 * i) % 67);
const windows = new Windows(text, 11);
const options = { train: windows, steps: 6, batch: 2, lr: 1e-2 };
const load = () => fromPretrained(fixtureFolder("llama-tiny"));

async function weightsOf(model: CausalLM): Promise<number[]> {
  const all: number[] = [];
  for (const p of model.trainableParameters()) all.push(...(await p.data()));
  return all;
}

/** Windows of which each row counts fewer targets than the one before, and the last row none. */
const masked: TrainingRows = {
  length: windows.length,
  fingerprint: windows.fingerprint,
  rows(count, seed, step) {
    const { ids, targets } = windows.rows(count, seed, step);
    targets.forEach((_, i) => {
      const [row, column] = [Math.floor(i / 11), i % 11];
      if (row === count - 1 || column < 2 * row) targets[i] = -100;
    });
    return { ids, targets };
  },
};

/** Loss, norm and all gradients of six rows. */
async function gradientsOf(rows: TrainingRows, batch: number, accumulate: number) {
  using model = await load();
  using optimizer = new AdamW(model.trainableParameters(), { lr: 1 });
  const sizes = { batch, accumulate, length: 11, clip: Infinity };
  using step = new TrainStep(model, optimizer, sizes);
  const facts = await step.compute(rows.rows(batch * accumulate, 1, 0));
  const gradients: number[] = [];
  for (const p of model.trainableParameters()) gradients.push(...(await p.grad!.data()));
  return { facts, gradients };
}

for (const [name, rows] of Object.entries({ "all targets": windows, "some targets": masked })) {
  gpuTest(`T5 ${name} count: micro-batches give the gradient of one large batch`, async () => {
    const whole = await gradientsOf(rows, 6, 1);
    const scale = Math.max(...whole.gradients.map(Math.abs));
    for (const [batch, accumulate] of [
      [3, 2],
      [1, 6],
    ] as const) {
      const parts = await gradientsOf(rows, batch, accumulate);
      close([parts.facts.loss], [whole.facts.loss], 1e-6, "loss");
      close([parts.facts.gradNorm], [whole.facts.gradNorm], 1e-5, "norm");
      const scaled = (list: number[]) => list.map((g) => g / scale);
      close(scaled(parts.gradients), scaled(whole.gradients), 1e-5, "gradients");
    }
    const squares = whole.gradients.reduce((a, g) => a + g * g, 0);
    close([whole.facts.gradNorm], [Math.sqrt(squares)], 1e-5, "the norm is that of the gradients");
  });
}

gpuTest("the mean of the means is another number, so that the test above can fail", async () => {
  const whole = await gradientsOf(masked, 6, 1);
  const rows = masked.rows(6, 1, 0);
  let mean = 0;
  for (let row = 0; row < 6; row++) {
    const part = (list: Int32Array) => list.slice(11 * row, 11 * (row + 1));
    const one = { ids: part(rows.ids), targets: part(rows.targets) };
    mean += (await gradientsOf({ ...masked, rows: () => one }, 1, 1)).facts.loss / 6;
  }
  ok(Math.abs(mean - whole.facts.loss) > 1e-2, `${mean} and ${whole.facts.loss}`);
});

gpuTest("micro-batches trained by replay and eagerly get the same bits, with dropout", async () => {
  const outcome = async (capture: boolean) => {
    manualSeed(4);
    using model = await load();
    addLora(model, { r: 4, lora_dropout: 0.2, target_modules: "all-linear" });
    const result = await fit(model, { ...options, train: masked, accumulate: 3, capture });
    is(result.captured, capture);
    return { losses: result.losses, norms: result.gradNorms, weights: await weightsOf(model) };
  };
  equal(await outcome(true), await outcome(false));
});

gpuTest(
  "layers computed again in backward: the same bits, replayed and eager, and packed rows",
  async () => {
    const packed: TrainingRows = {
      ...masked,
      rows: (...args) => ({ ...masked.rows(...args), starts: Int32Array.from({ length: 22 }, (_, i) => (i % 11 < 5 ? 0 : 5)) }), // biome-ignore format: one line
    };
    const outcome = async (
      train: TrainingRows,
      gradientCheckpointing: boolean,
      capture: boolean,
    ) => {
      manualSeed(4);
      using model = await load();
      addLora(model, { r: 4, lora_dropout: 0.2, target_modules: "all-linear" });
      const { losses, gradNorms } = await fit(model, { ...options, train, gradientCheckpointing, capture }); // biome-ignore format: one line
      is(model.gradientCheckpointing, false, "as before");
      return { losses, gradNorms, weights: await weightsOf(model) };
    };
    for (const train of [windows, packed]) {
      const plain = await outcome(train, false, true);
      equal(await outcome(train, true, true), plain);
      equal(await outcome(train, true, false), plain);
    }
  },
);

gpuTest(
  "steps of several widths: as eagerly, as wide as a row needs, and the loss of padded rows",
  async () => {
    const narrow = (step: number) => [11, 4, 7][step % 3]!;
    /** Rows of which the first tokens count, cut behind these or padded. */
    const rowsOf = (isCut: boolean): TrainingRows => ({
      ...windows,
      length: 11,
      fingerprint: "",
      rows(count, seed, step) {
        const [rows, width] = [windows.rows(count, seed, step), narrow(step)];
        if (!isCut) return { ...rows, targets: rows.targets.map((t, i) => (i % 11 < width ? t : -100)) }; // biome-ignore format: one line
        const cut = (list: Int32Array) => list.filter((_, i) => i % 11 < width);
        return { ids: cut(rows.ids), targets: cut(rows.targets), width };
      },
    });
    const outcome = async (isCut: boolean, capture: boolean) => {
      manualSeed(4);
      using model = await load();
      addLora(model, { r: 4, target_modules: "all-linear", lora_dropout: isCut ? 0.2 : 0 });
      const tokens: number[] = [];
      const onStep = (progress: FitProgress) => tokens.push(progress.tokens);
      const run = { ...options, train: rowsOf(isCut), steps: 11, accumulate: 2, capture, onStep };
      const { captured, losses } = await fit(model, run);
      is(captured, capture);
      equal(tokens, losses.map((_, i) => 4 * (isCut ? narrow(i) : 11))); // biome-ignore format: one line
      return { losses, weights: await weightsOf(model) };
    };
    const replayed = await outcome(true, true);
    equal(replayed, await outcome(true, false));
    const first = async (isCut: boolean) => {
      using model = await load();
      const train = rowsOf(isCut);
      return (await fit(model, { ...options, train, steps: 3, schedule: "constant" })).losses;
    };
    close(await first(true), await first(false), 1e-5, "losses");
  },
);

gpuTest("schedules by name, and what each step of fit tells", async () => {
  equal([0, 3, 9].map(scheduleOf("linear", 2, 10)), [0, 3, 9].map(linearSchedule(2, 10)));
  equal([0, 3, 9].map(scheduleOf("cosine", 2, 10)), [0, 3, 9].map(cosineSchedule(2, 10)));
  equal([0, 1, 9].map(scheduleOf("constant", 2, 10)), [0, 0.5, 1]);
  throwsLike(
    () => scheduleOf("step" as "linear", 0, 1),
    "ValueError",
    'scheduleOf: schedule must be "constant" or "cosine" or "linear", got "step"',
  );
  using model = await load();
  const seen: FitProgress[] = [];
  const onStep = (p: FitProgress) => seen.push(p);
  const run = { ...options, schedule: "linear", warmup: 2, smoothing: 0.5, onStep } as const;
  const { losses, gradNorms } = await fit(model, run);
  close(
    seen.map(({ lr }) => lr),
    [0, 1, 2, 3, 4, 5].map((i) => 1e-2 * linearSchedule(2, 6)(i)),
    1e-15,
    "rates",
  );
  equal(
    seen.map(({ gradNorm }) => gradNorm),
    gradNorms,
  );
  ok(gradNorms.every((norm) => norm > 0));
  const [a, b, c] = losses as [number, number, number];
  close([seen[2]!.smoothedLoss], [(a + 2 * b + 4 * c) / 7], 1e-12, "smoothed, unbiased");
  is(seen[0]!.smoothedLoss, a);
});

gpuTest("weight decay pulls on matrices alone", async () => {
  const [matrix, vector, scalar] = [[2, 2], [3], []].map((shape) => parameter(zeros(shape)));
  const all = [vector!, matrix!, scalar!];
  equal(decayGroups(all, 0.1), [
    { params: [matrix], weightDecay: 0.1 },
    { params: [vector, scalar], weightDecay: 0 },
  ]);
  equal(decayGroups(all, 0), [{ params: all, weightDecay: 0 }]);
  equal(decayGroups([vector!], 0.1), [{ params: [vector], weightDecay: 0 }]);
  using model = await load();
  const norm = [...model.namedParameters()].find(([name]) => name.endsWith("norm.weight"))![1];
  const head = model.stateDict().get("lm_head.weight")!;
  const before = [await norm.data(), await head.data()];
  model.loss = () => mul(sum(head), 0);
  await fit(model, { ...options, lr: 0.5, weightDecay: 0.25, schedule: "constant", steps: 1 });
  equal(await norm.data(), before[0], "a norm without gradient stays");
  close(
    await head.data(),
    before[1]!.map((x) => x * (1 - 0.5 * 0.25)),
    1e-6,
    "a matrix shrinks by lr·decay",
  );
});

gpuTest("groups with rates of their own follow the schedule, such as LoRA+'s", async () => {
  using model = await load();
  const lora = addLora(model, { r: 2, target_modules: "all-linear" });
  const parameters = loraPlusGroups(lora, { lr: 1e-3, loraplus_lr_ratio: 4 });
  const A = lora.parameters().filter((_, i) => i % 2 === 0);
  const rates: number[] = [];
  const onStep = ({ lr }: FitProgress) => rates.push(lr);
  const { losses } = await fit(model, { ...options, lr: 9, parameters, onStep });
  is(rates[0], 1e-3, "the group's own rate, not that of the options");
  is(A.length * 2, lora.parameters().length);
  ok(losses[5]! < losses[0]!);
});

/** A run whose loss is multiplied by `bad` in steps 3 and 4. */
async function spoiled(bad: number, change: Partial<FitOptions>, steps = 6) {
  manualSeed(2);
  using model = await load();
  addLora(model, { r: 2, lora_dropout: 0.1, target_modules: "all-linear" });
  const factor = tensor([1]).persist();
  const loss = model.loss.bind(model);
  model.loss = (ids, targets) => mul(loss(ids, targets), factor);
  const train: TrainingRows = {
    ...masked,
    rows(count, seed, step) {
      factor.set([step === 2 || step === 3 ? bad : 1]);
      return windows.rows(count, seed, step);
    },
  };
  const seen: boolean[] = [];
  const onStep = ({ skipped }: FitProgress) => seen.push(skipped);
  const result = await fit(model, {
    ...options,
    schedule: "constant",
    train,
    steps,
    onStep,
    ...change,
  });
  const weights = await weightsOf(model);
  factor.dispose();
  return { result, weights, seen };
}

for (const capture of [true, false]) {
  for (const bad of [Number.NaN, Infinity]) {
    const what = `${bad}, ${capture ? "replayed" : "eager"}`;
    gpuTest(`a loss of ${what}: nothing moves; training stops, or goes on`, async () => {
      const two = await spoiled(bad, { capture }, 2);
      const stop = await spoiled(bad, { capture });
      equal(stop.weights, two.weights, "as before the bad step");
      equal([stop.result.stopped, stop.result.skipped], ["nonFinite", [3]]);
      is(stop.result.losses.length, 3);
      ok(!Number.isFinite(stop.result.losses[2]!));
      const four = await spoiled(bad, { capture, onNonFinite: "skip" }, 4);
      equal(four.weights, two.weights);
      const skip = await spoiled(bad, { capture, onNonFinite: "skip" });
      equal([skip.result.stopped, skip.result.skipped], ["steps", [3, 4]]);
      equal(skip.seen, [false, false, true, true, false, false]);
      not.equal(skip.weights, two.weights);
      ok(skip.weights.every(Number.isFinite));
    });
  }
}

gpuTest("options out of range are refused by name", async () => {
  using model = await load();
  const says = async (change: object) => {
    const error = await fit(model, { ...options, ...change }).catch((reason: Error) => reason);
    return `${(error as Error).name} ${(error as Error).message}`;
  };
  const count = (arg: string) => `ValueError fit: ${arg} must be a positive integer`;
  const validate = { rows: windows, every: 1 };
  match(await says({ accumulate: 0 }), count("accumulate"));
  match(await says({ validate: { ...validate, every: 0 } }), count("validate.every"));
  match(await says({ validate: { ...validate, most: 1.5 } }), count("validate.most"));
  match(await says({ validate: { ...validate, patience: 0 } }), count("validate.patience"));
  match(await says({ validate: { ...validate, minDelta: -1 } }), "fit: validate.minDelta must be");
  match(await says({ limits: { steps: -1 } }), count("limits.steps"));
  match(
    await says({ limits: { until: 0 } }),
    "fit: limits.until must be a positive integer, got 0",
  );
  match(await says({ limits: { seconds: 0 } }), "fit: limits.seconds must be above 0, got 0");
  match(await says({ smoothing: 1 }), "fit: smoothing must be in [0, 1), got 1");
  match(await says({ warmup: -1 }), "fit: warmup must be a number of at least 0, got -1");
  match(await says({ onNonFinite: "go" }), 'fit: onNonFinite must be "stop" or "skip", got "go"');
  match(await says({ schedule: "step" }), "scheduleOf: schedule must be");
});

runTests();
