// `npm run demo`: a small pretrained base learns a second domain, by LoRA and by full fine-tuning,
// and everything that LoRA promises is measured in this one process.
import { parseArgs } from "node:util";
import { howToGetFaster } from "../../src/gpu/advice.ts";
import { init } from "../../src/gpu/device.ts";
import { LowrankError, ValueError } from "../../src/gpu/errors.ts";
import { readJson, writeFileSafely } from "../../src/tensor/files.ts";
import { Windows } from "../../src/train/windows.ts";
import { runFull, runLora } from "./arms.ts";
import { baseCorpus, targetCorpus } from "./corpora.ts";
import { drawCurves, smooth } from "./picture.ts";
import { table } from "./report.ts";
import { arms, BASE_FOLDER } from "./settings.ts";

const { values } = parseArgs({
  options: {
    text: { type: "string" },
    steps: { type: "string", default: `${arms.steps}` },
    out: { type: "string", default: "out/demo" },
  },
});

async function main(): Promise<void> {
  const steps = Number(values.steps);
  if (!Number.isSafeInteger(steps) || steps < 2) {
    const facts = { arg: "--steps", expected: "an integer above 1", got: values.steps };
    throw new ValueError({ op: "demo", ...facts });
  }
  const target = await targetCorpus(values.text);
  const base = await baseCorpus();
  const began = performance.now();
  const gpu = await init();
  console.log(`lowrank demo on ${gpu.description}`);
  console.log(`  base:   ${BASE_FOLDER} (${base.name})`);
  console.log(`  target: ${target.name}, ${target.train.length} bytes\n`);
  const data = {
    train: new Windows(target.train, arms.length),
    target: new Windows(target.valid, arms.length),
    base: new Windows(base.valid, arms.length),
    prompt: target.valid.subarray(0, 48),
  };
  const settings = { ...arms, steps, out: values.out };
  const lora = await runLora(data, settings);
  const full = await runFull(data, settings);
  const { lora: loraLr, full: fullLr } = arms.lr;
  const summary = {
    device: gpu.description,
    target: target.name,
    trainBytes: target.train.length,
    settings,
    baseTraining: await readJson(`${BASE_FOLDER}/training.json`),
    seconds: (performance.now() - began) / 1000,
    lora: lora.figures,
    full: full.figures,
  };
  await writeFileSafely(`${values.out}/summary.json`, `${JSON.stringify(summary, null, 2)}\n`);
  const curve = (name: string, { losses, valid }: typeof lora.fitted) => [
    { name: `${name}, training`, points: smooth(losses, Math.max(1, Math.floor(steps / 20))) },
    { name: `${name}, held-out`, points: valid, held: true },
  ];
  await drawCurves(`${values.out}/loss.svg`, `Fine-tuning on ${target.name}`, [
    ...curve(`LoRA, lr ${loraLr}`, lora.fitted),
    ...curve(`full, lr ${fullLr}`, full.fitted),
  ]);
  console.log(table(lora.figures, full.figures));
  console.log(`\nText before:\n${indent(lora.figures.sampleBefore)}`);
  console.log(`\nText after LoRA:\n${indent(lora.figures.sampleAfter)}`);
  console.log(`\n${lora.checks.map(({ name }) => `  ok  ${name}`).join("\n")}`);
  console.log(`\nWritten to ${values.out}: adapter/, summary.json, loss.svg`);
  console.log(`Took ${summary.seconds.toFixed(0)} s. ${howToGetFaster(gpu)}`);
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    | ");
}

try {
  await main();
} catch (error) {
  if (!(error instanceof LowrankError)) throw error;
  console.error(`demo failed.\n${error.message}`);
  process.exitCode = 1;
}
