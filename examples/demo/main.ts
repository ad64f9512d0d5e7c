// `npm run demo`: a small pretrained base learns a second domain, by LoRA and by full fine-tuning,
// and everything that LoRA promises is measured in this one process.
import { howToGetFaster } from "../../src/gpu/advice.ts";
import { init } from "../../src/gpu/device.ts";
import { LowrankError } from "../../src/gpu/errors.ts";
import { readJson, writeFileSafely } from "../../src/tensor/files.ts";
import { Windows } from "../../src/train/windows.ts";
import { type Losses, measureBase, runFull, runLora, type Settings } from "./arms.ts";
import { checkLines } from "./checks.ts";
import { baseCorpus, promptOf, targetCorpus } from "./corpora.ts";
import { prepareFolder, readOptions } from "./options.ts";
import { drawPicture, smooth } from "./picture.ts";
import { table } from "./report.ts";
import { arms, BASE_FOLDER, HELD_WINDOWS, TUNING_FILE } from "./settings.ts";

type Arms = {
  lora: Awaited<ReturnType<typeof runLora>>;
  full: Awaited<ReturnType<typeof runFull>>;
};

async function main(): Promise<void> {
  const { text, ...options } = readOptions(process.argv.slice(2));
  const began = performance.now();
  const target = await targetCorpus(text);
  await prepareFolder(options.out);
  const base = await baseCorpus();
  const tuning = await readJson(TUNING_FILE);
  const settings: Settings = { ...arms, ...options, lr: tuning.best as Settings["lr"] };
  const data = {
    train: new Windows(target.train, arms.length),
    target: new Windows(target.test, arms.length),
    base: new Windows(base.test, arms.length),
    prompt: promptOf(target.test),
  };
  const gpu = await init();
  console.log(`lowrank demo on ${gpu.description}
  base:    a Llama of 4 layers over bytes, trained on ${base.name} by this library (${BASE_FOLDER})
  target:  ${target.name}: ${target.train.length} bytes to train on, ${target.test.length} held out
  LoRA of rank ${arms.lora.r} and full fine-tuning see the same windows, ${settings.steps} steps of ${arms.batch} × ${arms.length} bytes
`);
  const before = await measureBase(data, settings);
  const lora = await runLora(data, settings, before.losses);
  const full = await runFull(data, settings, before.losses);
  const summary = {
    device: gpu.description,
    target: target.name,
    trainBytes: target.train.length,
    heldOutWindows: HELD_WINDOWS,
    settings,
    baseTraining: await readJson(`${BASE_FOLDER}/training.json`),
    seconds: (performance.now() - began) / 1000,
    before: before.losses,
    lora: lora.figures,
    full: full.figures,
    heldOutCurves: { lora: lora.curves.held, full: full.curves.held },
    samples: { before: before.text, after: lora.text },
    checks: lora.checks,
  };
  const { out } = options;
  await writeFileSafely(`${out}/summary.json`, `${JSON.stringify(summary, null, 2)}\n`);
  await draw(`${out}/loss.svg`, target.name, settings, before.losses, { lora, full });
  console.log(`
${table(before.losses, lora.figures, full.figures)}

The base goes on with held-out text:
${indent(before.text)}

After LoRA:
${indent(lora.text)}

Self-check:
${checkLines(lora.checks)}

Written to ${out}: adapter/ (PEFT's files), summary.json, loss.svg
Took ${summary.seconds.toFixed(0)} s. A faster device here: ${howToGetFaster(gpu)}`);
  const failed = lora.checks.filter(({ good }) => !good).length;
  if (failed > 0) {
    throw new LowrankError(`demo: ${failed} of ${lora.checks.length} self-checks failed.`);
  }
}

/** Curves and bars whose last figures are those of the table. */
function draw(path: string, name: string, settings: Settings, before: Losses, arm: Arms) {
  const { steps, batch, length, lora } = settings;
  const run = (key: "lora" | "full", title: string, colour: number) => {
    const { curves, figures } = arm[key];
    const fell = `${before.target.toFixed(3)} → ${figures.after.target.toFixed(3)}`;
    const training = smooth(curves.training, Math.max(1, Math.floor(steps / 20)));
    return { name: `${title}, held out ${fell}`, colour, training, held: curves.held };
  };
  return drawPicture(path, {
    title: `Fine-tuning on ${name}`,
    subtitle: `${steps} steps of ${batch} × ${length} bytes. LoRA r ${lora.r}, lr ${settings.lr.lora}; full lr ${settings.lr.full}`,
    runs: [run("lora", "LoRA", 0), run("full", "full fine-tuning", 1)],
    bars: {
      title: "held-out loss on the base's domain",
      values: [
        { name: "base", colour: 2, loss: before.base },
        { name: "LoRA", colour: 0, loss: arm.lora.figures.after.base },
        { name: "full", colour: 1, loss: arm.full.figures.after.base },
      ],
    },
  });
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    | ");
}

try {
  await main();
} catch (error) {
  if (!(error instanceof LowrankError)) throw error;
  console.error(`\ndemo failed.\n${error.message}`);
  process.exitCode = 1;
}
