// A small run with everything that must survive a break: dropout, micro-batches, looks, a schedule, decay.
import { addLora } from "../../src/lora/lora.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { fit } from "../../src/train/fit.ts";
import type { FitOptions } from "../../src/train/fit_options.ts";
import { Windows } from "../../src/train/windows.ts";
import { fixtureFolder } from "../fixtures.ts";

export const tokens = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * i + 3 * i) % 67);

/** What a run may differ in. */
export interface Change extends Partial<FitOptions> {
  /** Seed of the adapter's first values and of dropout: a run that goes on must not depend on it. */
  random?: number;
  dropout?: number;
}

/** Twelve steps; the last weights and the result. */
export async function tinyRun(folder: string, { random = 1, dropout = 0.1, ...change }: Change) {
  manualSeed(random);
  using model = await fromPretrained(fixtureFolder("llama-tiny"));
  const adapter = { r: 4, lora_dropout: dropout, target_modules: "all-linear" };
  addLora(model, adapter);
  const result = await fit(model, {
    train: new Windows(tokens(400), 11),
    steps: 12,
    batch: 2,
    accumulate: 2,
    lr: 3e-2,
    warmup: 3,
    weightDecay: 0.1,
    seed: 5,
    validate: { rows: new Windows(tokens(300).reverse(), 11), every: 3, most: 4, patience: 9 },
    checkpoint: { folder, every: 2, resume: "if-present" },
    ...change,
  });
  const weights: number[][] = [];
  for (const p of model.trainableParameters()) weights.push([...(await p.data())]);
  return { result, weights };
}
