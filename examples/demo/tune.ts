// Tunes the learning rate of both arms, each over its own grid in steps of √10: `npm run demo:tune`.
// The text that it looks at is held out from training and is not that of the demo's report.
// Writes tuning.json, whose best rates the demo takes.
import { readFile } from "node:fs/promises";
import { init } from "../../src/gpu/device.ts";
import { addLora } from "../../src/lora/lora.ts";
import { writeFileSafely } from "../../src/tensor/files.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import { loadBase } from "./arms.ts";
import { fingerprint, targetCorpus } from "./corpora.ts";
import { arms, BASE_FOLDER, HELD_WINDOWS, TUNING_FILE } from "./settings.ts";

const GRID = {
  lora: [1e-3, 3.16e-3, 1e-2, 3.16e-2],
  full: [3.16e-4, 1e-3, 3.16e-3, 1e-2],
};

/** Loss on the text to tune with after the demo's training at a learning rate. */
async function lossAfter(arm: "lora" | "full", lr: number): Promise<number> {
  const model = await loadBase();
  if (arm === "full") model.requiresGrad(true);
  manualSeed(arms.seed);
  if (arm === "lora") addLora(model, arms.lora);
  const { steps, batch, warmup, seed } = arms;
  await fit(model, { train, steps, batch, warmup, seed, lr });
  const loss = (await evaluate(model, tune, { batch, most: HELD_WINDOWS })).loss;
  model.dispose();
  return loss;
}

const gpu = await init();
const corpus = await targetCorpus();
const train = new Windows(corpus.train, arms.length);
const tune = new Windows(corpus.tune, arms.length);
const results: { arm: string; lr: number; loss: number }[] = [];
const best = { lora: 0, full: 0 };
for (const arm of ["lora", "full"] as const) {
  let lowest = Infinity;
  for (const lr of GRID[arm]) {
    const loss = await lossAfter(arm, lr);
    results.push({ arm, lr, loss });
    console.log(`${arm} ${lr}: ${loss.toFixed(4)}`);
    if (loss >= lowest) continue;
    lowest = loss;
    best[arm] = lr;
  }
}
const record = {
  device: gpu.description,
  baseSha256: fingerprint(await readFile(`${BASE_FOLDER}/model.safetensors`)),
  settings: arms,
  text: {
    name: corpus.name,
    trainBytes: corpus.train.length,
    trainSha256: fingerprint(corpus.train),
    tuneBytes: corpus.tune.length,
    tuneSha256: fingerprint(corpus.tune),
    tuneWindows: HELD_WINDOWS,
  },
  results,
  best,
};
await writeFileSafely(TUNING_FILE, `${JSON.stringify(record, null, 2)}\n`);
console.log(`Best: LoRA ${best.lora}, full ${best.full}`);
