// The range test: that it finds a rate that trains well, and leaves no trace.
import { equal, is, ok } from "uvu/assert";
import { addLora } from "../../src/lora/lora.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { manualSeed, randomState } from "../../src/tensor/philox.ts";
import { type FindRateOptions, findRate } from "../../src/train/find_rate.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { refusedLater } from "./sweep/refused_later.ts";
import { tokens } from "./tiny_run.ts";

const train = new Windows(tokens(400), 11);
const shared = { train, batch: 4, seed: 5 };

async function tiny(arm: "lora" | "full", dropout = 0) {
  manualSeed(1);
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  if (arm === "full") model.requiresGrad(true);
  else addLora(model, { r: 4, lora_dropout: dropout, target_modules: "all-linear" });
  return model;
}

const GRID = [-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5].map((power) => 10 ** power);

for (const arm of ["lora", "full"] as const) {
  gpuTest(
    `${arm}: training at the rate that is found falls as far as at the best of a grid`,
    async () => {
      const lossAt = async (lr: number) => {
        using model = await tiny(arm);
        const { losses } = await fit(model, { ...shared, steps: 40, lr, warmup: 2 });
        const end = losses.slice(-5);
        return { from: losses[0]!, to: end.reduce((a, b) => a + b) / end.length };
      };
      using model = await tiny(arm);
      const { lr, lowest, diverged, points } = await findRate(model, shared);
      ok(lr < lowest && lowest < (diverged ?? 1), `${lr} < ${lowest} < ${diverged}`);
      is(points.at(-1)!.lr, diverged ?? 1);
      const grid = [];
      for (const rate of GRID) grid.push({ rate, ...(await lossAt(rate)) });
      const best = grid.reduce((a, b) => (b.to < a.to ? b : a));
      const found = await lossAt(lr);
      const share = (found.from - found.to) / (best.from - best.to);
      const facts = `${lr}: ${found.to}; best ${best.rate}: ${best.to}; share ${share}`;
      ok(share > 0.85, facts);
      ok(lr > best.rate / 10 && lr < best.rate * 10, facts);
    },
  );
}

gpuTest(
  "parameters, gradients, random state and mode are as before, and so is what training makes",
  async () => {
    const weights = async (isTested: boolean) => {
      using model = await tiny("lora", 0.2);
      model.eval();
      const before = randomState();
      const start: Uint8Array[] = [];
      for (const p of model.parameters()) start.push(await p.rawBytes());
      if (isTested) {
        await findRate(model, { ...shared, accumulate: 2, weightDecay: 0.1, steps: 12 });
        const after: Uint8Array[] = [];
        for (const p of model.parameters()) after.push(await p.rawBytes());
        equal(after, start);
        equal(randomState(), before);
        is(model.training, false);
      }
      await fit(model, { ...shared, steps: 4, lr: 1e-2 });
      const all: number[] = [];
      for (const p of model.trainableParameters()) all.push(...(await p.data()));
      return all;
    };
    equal(await weights(true), await weights(false));
  },
);

gpuTest(
  "where no rate helps it says so, and a signal ends it; either way the model is untouched",
  async () => {
    using model = await tiny("lora");
    const [p] = model.trainableParameters();
    const before = await p!.rawBytes();
    const refused = (change: Partial<FindRateOptions>, ...parts: string[]) =>
      refusedLater(() => findRate(model, { ...shared, ...change }), "ValueError", ...parts);
    const hint = "Begin with a lower rate, or take more steps.";
    const range = { low: 1e-12, high: 1e-11, steps: 4 };
    await refused(range, "findRate: the loss must be one that falls at some rate, got", hint);
    await refused({ low: 0 }, "findRate: low must be above 0, got 0.");
    await refused({ high: 1e-7 }, "findRate: high must be above low, 0.000001, got 1e-7.");
    await refused({ steps: 0 }, "findRate: steps must be a positive integer, got 0.");
    const controller = new AbortController();
    const seen: number[] = [];
    await refused(
      {
        signal: controller.signal,
        onStep: (_, step) => {
          seen.push(step);
          if (step === 3) controller.abort();
        },
      },
      "findRate: the loss must be",
    );
    equal(seen, [1, 2, 3]);
    equal(await p!.rawBytes(), before);
  },
);

runTests();
