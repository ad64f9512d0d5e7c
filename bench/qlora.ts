// `npx tsx bench/qlora.ts [--json file] [--steps n]`: the same LoRA runs on a base held as f32, bf16, int8 and NF4. Bytes, peak
// and loss on the study's base, which learns TypeScript's declarations; then the time of a step, the types in turns, there and
// on two layers as wide as those of a small language model.
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fromHere } from "../scripts/from_here.ts";
import { init } from "../src/gpu/device.ts";
import { addLora } from "../src/lora/lora.ts";
import type { CausalLM } from "../src/nn/causal_lm.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import { AdamW } from "../src/nn/optim/index.ts";
import { fromPretrained, savePretrained } from "../src/nn/pretrained.ts";
import { manualSeed } from "../src/tensor/philox.ts";
import { type BaseDtype, heldAs } from "../src/train/base_dtype.ts";
import { conditions, timingOf } from "../src/train/bench/timed.ts";
import { evaluate } from "../src/train/evaluate.ts";
import { fit } from "../src/train/fit.ts";
import { TrainStep } from "../src/train/train_step.ts";
import { splitTail, Windows } from "../src/train/windows.ts";
import { writeResults } from "./results.ts";

const { values } = parseArgs({
  options: { json: { type: "string" }, steps: { type: "string", default: "120" } },
});
const STEPS = Number(values.steps);
const TYPES: readonly BaseDtype[] = ["f32", "bf16", "int8", "nf4"];
const [BATCH, LENGTH, ROUNDS] = [8, 64, 9];
const ADAPTER = { r: 8, lora_alpha: 16, target_modules: "all-linear" as const };

/** Step times are medians in milliseconds; null where a run ended before them. */
export interface QLoraRow {
  dtype: BaseDtype;
  /** Of the base on the device. */
  baseBytes: number;
  /** Most bytes on the device while it trained. */
  peakBytes: number;
  lossBefore: number;
  lossAfter: number;
  stepMs: number | null;
  wideStepMs: number | null;
}

const root = join(import.meta.dirname, "..");
const base = join(root, "examples/study/base");
const types = join(root, "node_modules/@types/node");
const text = readdirSync(types)
  .filter((name) => name.endsWith(".d.ts"))
  .sort()
  .map((name) => readFileSync(join(types, name), "utf8"))
  .join("");
const [train, held] = splitTail(new TextEncoder().encode(text.slice(0, 1_000_000)), 0.1);
const windows = new Windows(train, LENGTH);

const gpu = await init();
const folder = await mkdtemp(join(tmpdir(), "lowrank-qlora-"));
try {
  const rows: QLoraRow[] = [];
  for (const dtype of TYPES) rows.push(await trained(dtype));
  await keep(rows);
  const narrow = await stepTimes(base, BATCH, LENGTH);
  await writeWide(folder);
  const wide = await stepTimes(folder, 4, 64);
  for (const [i, row] of rows.entries()) {
    row.stepMs = narrow[i]!;
    row.wideStepMs = wide[i]!;
  }
  console.table(rows);
  await keep(rows);
} finally {
  await rm(folder, { recursive: true });
  gpu.dispose();
}

async function keep(rows: QLoraRow[]): Promise<void> {
  if (!values.json) return;
  const where = conditions("qlora", gpu.adapterClass, gpu.description);
  const file = fromHere("bench", values.json);
  await writeResults(file, { ...where, steps: STEPS, rows }, ({ dtype }) => dtype);
}

async function trained(dtype: BaseDtype): Promise<QLoraRow> {
  manualSeed(1);
  const start = gpu.stats().bytesLive;
  using model = await fromPretrained(base, heldAs(dtype));
  model.requiresGrad(false);
  const baseBytes = gpu.stats().bytesLive - start;
  const look = async () => (await evaluate(model, new Windows(held, LENGTH), { most: 64 })).loss;
  const lossBefore = await look();
  addLora(model, ADAPTER);
  gpu.resetPeak();
  await fit(model, { train: windows, steps: STEPS, batch: BATCH, lr: 2e-3, warmup: 5, seed: 1 });
  const peakBytes = gpu.stats().bytesPeak - start;
  const row = { dtype, baseBytes, peakBytes, lossBefore, lossAfter: await look() };
  console.log(JSON.stringify(row));
  return { ...row, stepMs: null, wideStepMs: null };
}

/** Medians of a step for each type, which take turns, so that a slow moment meets all of them. */
async function stepTimes(from: string, batch: number, length: number): Promise<number[]> {
  const models: { model: CausalLM; optimizer: AdamW; step: TrainStep }[] = [];
  for (const dtype of TYPES) {
    const model = await fromPretrained(from, heldAs(dtype));
    addLora(model.requiresGrad(false), ADAPTER);
    const optimizer = new AdamW(model.train().trainableParameters(), { lr: 1e-5 });
    const sizes = { batch, accumulate: 1, clip: 1, length };
    models.push({ model, optimizer, step: new TrainStep(model, optimizer, sizes) });
  }
  const rows = new Windows(train, length).rows(batch, 1, 1);
  const times = models.map((): number[] => []);
  for (let round = -3; round < ROUNDS; round++) {
    for (const [i, { step }] of models.entries()) {
      const began = performance.now();
      await step.compute(rows);
      step.update();
      await gpu.sync();
      if (round >= 0) times[i]!.push(performance.now() - began);
    }
  }
  for (const { model, optimizer, step } of models) {
    step.dispose();
    optimizer.dispose();
    model.dispose();
  }
  return times.map((own) => timingOf(own).ms);
}

/** Two layers of width 768. */
async function writeWide(to: string): Promise<void> {
  using model = new LlamaForCausalLM({
    vocab_size: 256,
    hidden_size: 768,
    intermediate_size: 2048,
    num_hidden_layers: 2,
    num_attention_heads: 12,
    max_position_embeddings: 128,
  });
  await savePretrained(model, to, { dtype: "bf16" });
}
