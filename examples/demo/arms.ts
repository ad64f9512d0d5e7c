// The two arms of the demo: the same base, windows, steps and seed; only what is trained differs.
import { stat } from "node:fs/promises";
import { gpu } from "../../src/gpu/device.ts";
import { addLora, type Lora } from "../../src/lora/lora.ts";
import { loadAdapter, saveAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained, toFloat32 } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import type { Batch, Windows } from "../../src/train/windows.ts";
import * as check from "./checks.ts";
import { compareMerged, logitsOf, median, sample } from "./measure.ts";
import type { Point } from "./picture.ts";
import { progressLine } from "./progress.ts";
import { type arms, BASE_FOLDER, HELD_WINDOWS } from "./settings.ts";

export interface Data {
  train: Windows;
  /** Held-out text of the target domain, and of the base's. */
  target: Windows;
  base: Windows;
  /** A held-out text for the model to go on with. */
  prompt: Uint8Array;
}

export type Settings = typeof arms & { lr: { lora: number; full: number }; out: string };

/** Mean loss on the held-out text of both domains, in nats per byte. */
export interface Losses {
  target: number;
  base: number;
}

/** The base in f32, so that both arms compute alike and a merge is exact to rounding. */
export async function loadBase(): Promise<CausalLM> {
  const model = await fromPretrained(BASE_FOLDER);
  toFloat32(model);
  return model.requiresGrad(false);
}

async function heldLoss(model: CausalLM, windows: Windows, { batch }: Settings): Promise<number> {
  return (await evaluate(model, windows, { batch, most: HELD_WINDOWS })).loss;
}

async function lossesOf(model: CausalLM, data: Data, settings: Settings): Promise<Losses> {
  const target = await heldLoss(model, data.target, settings);
  return { target, base: await heldLoss(model, data.base, settings) };
}

/** The base before any training: its losses and how it goes on with the prompt. */
export async function measureBase(data: Data, settings: Settings) {
  const model = await loadBase();
  const losses = await lossesOf(model, data, settings);
  const text = await sample(model, data.prompt);
  model.dispose();
  return { losses, text };
}

/** Trains, watching the very windows of the target that the table reports. */
async function train(
  model: CausalLM,
  name: "lora" | "full",
  data: Data,
  settings: Settings,
  before: Losses,
) {
  const { steps, batch, warmup, seed, lr } = settings;
  const line = progressLine(name === "lora" ? "LoRA" : "full", steps);
  const every = Math.floor(steps / 3) + 1; // twice on the way; the end is measured below
  gpu().resetPeak();
  const { losses, stepMs, valid } = await fit(model, {
    train: data.train,
    steps,
    batch,
    lr: lr[name],
    warmup,
    seed,
    validate: { rows: data.target, every, most: HELD_WINDOWS },
    onStep: line.onStep,
  });
  line.end();
  const { bytesPeak } = gpu().stats();
  const after = await lossesOf(model, data, settings);
  const held: Point[] = [
    { step: 0, loss: before.target },
    ...valid.filter(({ step }) => step < steps),
    { step: steps, loss: after.target },
  ];
  const figures = { lr: lr[name], stepMs: median(stepMs), peakBytes: bytesPeak, after };
  return { figures, curves: { training: losses, held } };
}

export type LoraFigures = Awaited<ReturnType<typeof runLora>>["figures"];
export type FullFigures = Awaited<ReturnType<typeof runFull>>["figures"];

/** LoRA: trains an adapter, saves it, and checks everything that can be checked. */
export async function runLora(data: Data, settings: Settings, before: Losses) {
  const model = await loadBase();
  const hashBefore = await check.hashOf(model.parameters());
  manualSeed(settings.seed);
  const lora = addLora(model, settings.lora);
  const count = lora.count();
  const { figures, curves } = await train(model, "lora", data, settings, before);
  const text = await sample(model, data.prompt);
  const folder = `${settings.out}/adapter`;
  await saveAdapter(lora, folder, { base: "examples/demo/base" });
  const { merge, checks } = await selfCheck(model, lora, data.target.at([0]), hashBefore, folder);
  lora.remove();
  model.dispose();
  const sizes = {
    adapterBytes: (await stat(`${folder}/adapter_model.safetensors`)).size,
    checkpointBytes: (await stat(`${BASE_FOLDER}/model.safetensors`)).size,
  };
  return { figures: { ...count, ...sizes, ...figures, merge }, curves, checks, text };
}

/** Checks a trained adapter. Where a check cannot be made, those before it are printed with the error. */
async function selfCheck(
  model: CausalLM,
  lora: Lora,
  probe: Batch,
  hashBefore: string,
  folder: string,
) {
  const checks: check.Check[] = [];
  try {
    checks.push(await check.everyBMoved(lora));
    checks.push(await check.onlyAdaptersGetGradients(model, lora, probe));
    const merge = await compareMerged(model, lora, probe.ids);
    checks.push(check.mergedEqualsUnmerged(merge));
    checks.push(check.baseUnchanged(hashBefore, await check.hashOf(baseOf(model, lora))));
    const [logits, again] = [await logitsOf(model, probe.ids), await reloaded(folder, probe.ids)];
    checks.push(check.sameLogits(logits, again));
    return { merge, checks };
  } catch (error) {
    console.log(`\nSelf-check, as far as it went:\n${check.checkLines(checks)}`);
    throw error;
  }
}

/** Full fine-tuning of every parameter, over the same windows. */
export async function runFull(data: Data, settings: Settings, before: Losses) {
  const model = await loadBase();
  model.requiresGrad(true);
  const trainable = model.trainableParameters().reduce((sum, p) => sum + p.size, 0);
  const { figures, curves } = await train(model, "full", data, settings, before);
  model.dispose();
  return { figures: { trainable, ...figures }, curves };
}

/** The parameters of the base inside an adapted model, in the base's order. */
function baseOf(model: CausalLM, lora: Lora): Tensor[] {
  const own = new Set(lora.parameters());
  return model.parameters().filter((p) => !own.has(p));
}

/** Logits of the base from its folder with the adapter from its folder. */
async function reloaded(folder: string, ids: Tensor): Promise<Float32Array> {
  const fresh = await loadBase();
  await loadAdapter(fresh, folder);
  const logits = await logitsOf(fresh, ids);
  fresh.dispose();
  return logits;
}
