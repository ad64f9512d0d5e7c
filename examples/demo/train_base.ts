// Trains the demo's base model, from nothing, on TypeScript declarations: `npm run demo:base`.
// Writes examples/demo/base: checkpoint (f16), configuration, training record, loss curve.
import { parseArgs } from "node:util";
import { init } from "../../src/gpu/device.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { savePretrained } from "../../src/nn/pretrained.ts";
import { writeFileSafely } from "../../src/tensor/files.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import { baseCorpus } from "./corpora.ts";
import { drawCurves, smooth } from "./picture.ts";
import { progressLine } from "./progress.ts";
import { BASE_FOLDER, baseConfig } from "./settings.ts";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "2400" },
    batch: { type: "string", default: "16" },
    lr: { type: "string", default: "3e-3" },
    length: { type: "string", default: "96" },
  },
});
const settings = {
  steps: Number(values.steps),
  batch: Number(values.batch),
  lr: Number(values.lr),
  length: Number(values.length),
  warmup: 50,
  weightDecay: 0.01,
  seed: 1,
};

const gpu = await init();
console.log(`Training the base on ${gpu.description}`);
manualSeed(settings.seed);
const corpus = await baseCorpus();
const model = new LlamaForCausalLM(baseConfig);
const train = new Windows(corpus.train, settings.length);
const held = new Windows(corpus.valid, settings.length);
const line = progressLine("base", settings.steps);
const began = Date.now();
const every = Math.max(1, Math.floor(settings.steps / 16));
const { length: _, ...fitting } = settings;
const result = await fit(model, {
  ...fitting,
  train,
  validate: { windows: held, every, most: 64 },
  onStep: line.onStep,
});
line.end();
await savePretrained(model, BASE_FOLDER, { dtype: "f16" });
const record = {
  ...settings,
  device: gpu.description,
  corpus: corpus.name,
  trainBytes: corpus.train.length,
  heldBytes: corpus.valid.length,
  minutes: (Date.now() - began) / 60000,
  validLoss: await evaluate(model, held, { batch: settings.batch, most: 256 }),
  valid: result.valid,
};
await writeFileSafely(`${BASE_FOLDER}/training.json`, `${JSON.stringify(record, null, 2)}\n`);
await drawCurves(`${BASE_FOLDER}/loss.svg`, "Base: TypeScript declarations", [
  { name: "training", points: smooth(result.losses, Math.max(1, Math.floor(every / 4))) },
  { name: "held-out", points: result.valid, held: true },
]);
console.log(`Held-out loss ${record.validLoss.toFixed(3)} nats per byte, in ${BASE_FOLDER}`);
