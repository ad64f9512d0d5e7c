// The two arms of the demo: the same base, windows, steps and seed; only what is trained differs.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { noGrad } from "../../src/autograd/graph.ts";
import { gpu } from "../../src/gpu/device.ts";
import { LowrankError } from "../../src/gpu/errors.ts";
import { addLora, type Lora } from "../../src/lora/lora.ts";
import { loadAdapter, saveAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained, toFloat32 } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import { decodeBytes } from "../../src/train/text/bytes.ts";
import type { Windows } from "../../src/train/windows.ts";
import { progressLine } from "./progress.ts";
import { type arms, BASE_FOLDER } from "./settings.ts";

export interface Data {
  train: Windows;
  /** Held-out text of the target domain, and of the base's. */
  target: Windows;
  base: Windows;
  prompt: Uint8Array;
}

export type Settings = typeof arms & { out: string };

const HELD_WINDOWS = 48;
/** Merged and unmerged logits may differ by this share of the largest logit. */
export const MERGE_BOUND = 1e-5;

/** The base in f32, so that both arms compute alike and a merge is exact to rounding. */
async function loadBase(): Promise<CausalLM> {
  const model = await fromPretrained(BASE_FOLDER);
  toFloat32(model);
  return model.requiresGrad(false);
}

async function losses(model: CausalLM, { target, base }: Data, { batch }: Settings) {
  const options = { batch, most: HELD_WINDOWS };
  return {
    target: await evaluate(model, target, options),
    base: await evaluate(model, base, options),
  };
}

async function train(model: CausalLM, name: "lora" | "full", data: Data, settings: Settings) {
  const { steps, batch, warmup, seed, lr } = settings;
  const line = progressLine(name === "lora" ? "LoRA" : "full", steps);
  const validate = { windows: data.target, every: Math.ceil(steps / 4), most: 16 };
  gpu().resetPeak();
  const fitted = await fit(model, {
    train: data.train,
    steps,
    batch,
    lr: lr[name],
    warmup,
    seed,
    validate,
    onStep: line.onStep,
  });
  line.end();
  return { fitted, peakBytes: gpu().stats().bytesPeak };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

async function logitsOf(model: CausalLM, data: Data, settings: Settings): Promise<Float32Array> {
  using _ = scope();
  const { ids } = data.target.at([0, settings.length]);
  return (await noGrad(() => model.call(ids)).data()) as Float32Array;
}

/** Median time of a forward pass with the adapter merged and unmerged, measured in turns. */
async function latencies(lora: Lora, run: () => Promise<unknown>) {
  const times: { merged: number[]; unmerged: number[] } = { merged: [], unmerged: [] };
  for (let turn = 0; turn < 6; turn++) {
    const state = turn % 2 === 0 ? "merged" : "unmerged";
    if (state === "merged") lora.merge();
    else lora.unmerge();
    await run(); // the merge itself, and what it leaves cold, is not timed
    for (let i = 0; i < 3; i++) {
      const began = performance.now();
      await run();
      times[state].push(performance.now() - began);
    }
  }
  lora.unmerge();
  return { mergedMs: median(times.merged), unmergedMs: median(times.unmerged) };
}

async function hashOf(tensors: readonly Tensor[]): Promise<string> {
  const hash = createHash("sha256");
  for (const t of tensors) hash.update(await t.rawBytes());
  return hash.digest("hex");
}

async function sample(model: CausalLM, prompt: Uint8Array): Promise<string> {
  const tokens = await generate(model, prompt, {
    maxNewTokens: 120,
    temperature: 0.7,
    topK: 40,
    seed: 3,
  });
  return decodeBytes([...prompt, ...tokens]);
}

export interface Check {
  name: string;
  good: boolean;
}

/** What one arm measured; `null` where it does not apply. */
export type LoraFigures = Awaited<ReturnType<typeof runLora>>["figures"];
export type FullFigures = Awaited<ReturnType<typeof runFull>>["figures"];

/** LoRA: trains an adapter, saves it, and checks everything that can be checked. */
export async function runLora(data: Data, settings: Settings) {
  const model = await loadBase();
  const frozen = model.parameters();
  const before = await losses(model, data, settings);
  const sampleBefore = await sample(model, data.prompt);
  const hashBefore = await hashOf(frozen);
  manualSeed(settings.seed);
  const lora = addLora(model, settings.lora);
  const count = lora.count();
  const { fitted, peakBytes } = await train(model, "lora", data, settings);
  const after = await losses(model, data, settings);
  const sampleAfter = await sample(model, data.prompt);
  const folder = `${settings.out}/adapter`;
  await saveAdapter(lora, folder, { base: "examples/demo/base" });
  const merge = await compareMerged(model, lora, data, settings);
  const checks: Check[] = [
    { name: "every lora_B moved away from zero", good: await allMoved(lora) },
    { name: "no base parameter has a gradient", good: frozen.every((p) => !p.grad) },
    {
      name: "the base's bytes are unchanged (SHA-256), after merge and unmerge",
      good: hashBefore === (await hashOf(baseOf(model, frozen.length))),
    },
    {
      name: "the adapter from disk gives the same logits bit for bit",
      good: await reloads(model, folder, data, settings),
    },
    {
      name: `merged equals unmerged within ${MERGE_BOUND} of the largest logit`,
      good: merge.difference <= MERGE_BOUND * merge.largestLogit,
    },
  ];
  const failed = checks.filter(({ good }) => !good).map(({ name }) => name);
  if (failed.length > 0)
    throw new LowrankError(`demo: the self-check failed: ${failed.join("; ")}.`);
  lora.remove();
  model.dispose();
  const figures = {
    ...count,
    adapterBytes: (await stat(`${folder}/adapter_model.safetensors`)).size,
    checkpointBytes: (await stat(`${BASE_FOLDER}/model.safetensors`)).size,
    stepMs: median(fitted.stepMs),
    peakBytes,
    before,
    after,
    merge,
    sampleBefore,
    sampleAfter,
  };
  return { figures, fitted, checks };
}

/** Full fine-tuning of every parameter, over the same windows. */
export async function runFull(data: Data, settings: Settings) {
  const model = await loadBase();
  model.requiresGrad(true);
  const trainable = model.trainableParameters().reduce((sum, p) => sum + p.size, 0);
  const { fitted, peakBytes } = await train(model, "full", data, settings);
  const after = await losses(model, data, settings);
  model.dispose();
  return { figures: { trainable, stepMs: median(fitted.stepMs), peakBytes, after }, fitted };
}

/** The parameters of the base inside an adapted model, in the base's order. */
function baseOf(model: CausalLM, count: number): Tensor[] {
  const own = [...model.namedParameters()].filter(([name]) => !/\.lora_[AB]$/.test(name));
  if (own.length !== count) throw new LowrankError("demo: a parameter of the base is missing.");
  return own.map(([, p]) => p);
}

async function allMoved(lora: Lora): Promise<boolean> {
  for (const { active } of lora.layers.values()) {
    for (const { lora_B } of active) if ((await lora_B.data()).every((v) => v === 0)) return false;
  }
  return true;
}

async function reloads(model: CausalLM, folder: string, data: Data, settings: Settings) {
  const fresh = await loadBase();
  await loadAdapter(fresh, folder);
  fresh.eval();
  model.eval();
  const [a, b] = [await logitsOf(model, data, settings), await logitsOf(fresh, data, settings)];
  fresh.dispose();
  return a.every((v, i) => Object.is(v, b[i]));
}

async function compareMerged(model: CausalLM, lora: Lora, data: Data, settings: Settings) {
  model.eval();
  const run = () => logitsOf(model, data, settings);
  const unmerged = await run();
  lora.merge();
  const merged = await run();
  let [difference, largestLogit] = [0, 0];
  unmerged.forEach((v, i) => {
    difference = Math.max(difference, Math.abs(v - merged[i]!));
    largestLogit = Math.max(largestLogit, Math.abs(v));
  });
  return { difference, largestLogit, ...(await latencies(lora, run)) };
}
