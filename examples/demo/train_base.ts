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
import { baseCorpus, fingerprint } from "./corpora.ts";
import { drawPicture, smooth } from "./picture.ts";
import { progressLine } from "./progress.ts";
import { BASE_FOLDER, baseConfig, baseTraining } from "./settings.ts";

/** Windows of the held-out text that the loss curve looks at. */
const CURVE_WINDOWS = 128;

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: `${baseTraining.steps}` },
    batch: { type: "string", default: `${baseTraining.batch}` },
    lr: { type: "string", default: `${baseTraining.lr}` },
    length: { type: "string", default: `${baseTraining.length}` },
  },
});
const settings = {
  ...baseTraining,
  steps: Number(values.steps),
  batch: Number(values.batch),
  lr: Number(values.lr),
  length: Number(values.length),
};

const gpu = await init();
console.log(`Training the base on ${gpu.description}`);
manualSeed(settings.seed);
const corpus = await baseCorpus();
const model = new LlamaForCausalLM(baseConfig);
const windows = (text: Uint8Array) => new Windows(text, settings.length);
const tune = windows(corpus.tune);
const line = progressLine("base", settings.steps);
const began = Date.now();
const every = Math.max(1, Math.floor(settings.steps / 24));
const { length: _, ...fitting } = settings;
const result = await fit(model, {
  ...fitting,
  train: windows(corpus.train),
  validate: { rows: tune, every, most: CURVE_WINDOWS },
  onStep: line.onStep,
});
line.end();
await savePretrained(model, BASE_FOLDER, { dtype: "f16" });
const record = {
  ...settings,
  device: gpu.description,
  corpus: corpus.name,
  trainBytes: corpus.train.length,
  trainSha256: fingerprint(corpus.train),
  tuneBytes: corpus.tune.length,
  testBytes: corpus.test.length,
  minutes: (Date.now() - began) / 60000,
  tuneLoss: (await evaluate(model, tune, { batch: 16 })).loss,
  testLoss: (await evaluate(model, windows(corpus.test), { batch: 16 })).loss,
  curve: result.valid,
};
await writeFileSafely(`${BASE_FOLDER}/training.json`, `${JSON.stringify(record, null, 2)}\n`);
await drawPicture(`${BASE_FOLDER}/loss.svg`, {
  title: `The demo's base: ${corpus.name}`,
  subtitle: `${settings.steps} steps of ${settings.batch} × ${settings.length} bytes, lr ${settings.lr}`,
  runs: [
    {
      name: `held out: the same ${CURVE_WINDOWS} windows each time`,
      colour: 0,
      training: smooth(result.losses, Math.max(1, Math.floor(every / 4))),
      held: result.valid,
    },
  ],
});
console.log(`Loss on the test text ${record.testLoss.toFixed(3)} nats per byte. In ${BASE_FOLDER}`);
