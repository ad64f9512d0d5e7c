// Tunes the learning rate of both arms, each over the same grid of steps of √10: `npm run demo:tune`.
// Writes tuning.json; the demo's settings are the best of it.
import { join } from "node:path";
import { init } from "../../src/gpu/device.ts";
import { addLora } from "../../src/lora/lora.ts";
import { fromPretrained, toFloat32 } from "../../src/nn/pretrained.ts";
import { writeFileSafely } from "../../src/tensor/files.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import { targetCorpus } from "./corpora.ts";
import { arms, BASE_FOLDER } from "./settings.ts";

const GRID = {
  lora: [1e-3, 3.16e-3, 1e-2, 3.16e-2],
  full: [3.16e-4, 1e-3, 3.16e-3, 1e-2],
};

const gpu = await init();
const { train, valid } = await targetCorpus();
const held = new Windows(valid, arms.length);
const results: { arm: string; lr: number; heldLoss: number }[] = [];
for (const arm of ["lora", "full"] as const) {
  for (const lr of GRID[arm]) {
    const model = await fromPretrained(BASE_FOLDER);
    toFloat32(model);
    model.requiresGrad(arm === "full");
    manualSeed(arms.seed);
    if (arm === "lora") addLora(model, arms.lora);
    const { steps, batch, warmup, seed } = arms;
    const windows = new Windows(train, arms.length);
    await fit(model, { train: windows, steps, batch, warmup, seed, lr });
    const heldLoss = await evaluate(model, held, { batch, most: 48 });
    results.push({ arm, lr, heldLoss });
    console.log(`${arm} ${lr}: ${heldLoss.toFixed(4)}`);
    model.dispose();
  }
}
const record = { device: gpu.description, settings: arms, results };
const file = join(import.meta.dirname, "tuning.json");
await writeFileSafely(file, `${JSON.stringify(record, null, 2)}\n`);
