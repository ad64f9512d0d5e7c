// What a model costs on this device: loading it, training an adapter on it, generating from it. Node only.
import type { Gpu } from "../../gpu/device.ts";
import { ValueError } from "../../gpu/errors.ts";
import { addLora } from "../../lora/lora.ts";
import { fromPretrained, outlinePretrained } from "../../nn/pretrained.ts";
import { Checkpoint } from "../../tensor/checkpoint.ts";
import { isQuantized } from "../../tensor/quantized.ts";
import { type BaseDtype, heldAs } from "../base_dtype.ts";
import { fillAdapter, generationSpeed, trainingSpeed } from "./speeds.ts";
import { peakResident } from "./timed.ts";

export interface ModelBenchOptions {
  /** What the base is held as. Default auto. */
  dtype?: BaseDtype;
  /** Rank of the adapter, which is on all linear layers. Default 16. */
  rank?: number;
  /** Rows and tokens of a training step. Default 1 of 64, or of the context. */
  batch?: number;
  length?: number;
  /** For each figure, beside what compiles. Default 3. */
  seconds?: number;
  /** Loading alone. Default false. */
  loadOnly?: boolean;
  onPhase?: (phase: string) => void;
}

/** The types whose bytes are told. */
const TYPES = ["f32", "bf16", "int8", "nf4"] as const;

export interface ModelBench {
  dtype: BaseDtype;
  parameters: number;
  /** Of the files' tensors. */
  checkpointBytes: number;
  load: {
    seconds: number;
    secondsPerGB: number;
    /** What of it a fresh page of memory alone takes, where buffers lie in this process's memory; else null. */
    touchSecondsPerGB: number | null;
    /** The parameters on the device. */
    deviceBytes: number;
    /** The most memory that the process had while loading, less what it had before and the device's buffers in it. */
    hostBytes: number;
    hostBytesPerGB: number;
    /** The most that JavaScript's buffers held at once. */
    arrayBytes: number;
  };
  /** Of the base alone, as `fromPretrained` would hold it; null where it cannot be held so. */
  baseBytes: Record<(typeof TYPES)[number], number | null>;
  /** Null with `loadOnly`. */
  training: { rank: number; batch: number; length: number; ms: number; spread: number; tokensPerSecond: number } | null; // biome-ignore format: one line
  /** Tokens a second of one prompt; merged is null on a quantised base. Null with `loadOnly`. */
  generation: { base: number; base8: number; adapter: number; merged: number | null } | null;
}

const GB = 1e9;

/**
 * Measures a model. Peak memory is right only in a process that has loaded none before.
 * @param folder  of the model
 * @throws ValueError for sizes that are none; as `fromPretrained`
 */
export async function benchModel(
  gpu: Gpu,
  folder: string,
  options: ModelBenchOptions = {},
): Promise<ModelBench> {
  const { dtype = "auto", rank = 16, batch = 1, seconds = 3, onPhase, loadOnly = false } = options;
  for (const [arg, n] of Object.entries({ rank, batch, length: options.length ?? 1 })) {
    if (Number.isSafeInteger(n) && n > 0) continue;
    throw new ValueError({ op: "bench", arg, expected: "a positive integer", got: `${n}` });
  }
  const checkpointBytes = await bytesIn(folder);
  const baseBytes = await bytesByType(folder);
  onPhase?.("loading");
  const liveBefore = gpu.stats().bytesLive;
  const before = await peakResident();
  let arrayBytes = 0;
  const began = performance.now();
  using model = await fromPretrained(folder, {
    ...heldAs(dtype),
    onProgress: () => {
      arrayBytes = Math.max(arrayBytes, process.memoryUsage().arrayBuffers);
    },
  });
  const loadSeconds = (performance.now() - began) / 1000;
  const deviceBytes = gpu.stats().bytesLive - liveBefore;
  // A software device keeps its buffers in this process's memory; a GPU does not.
  const isInHost = gpu.adapterClass !== "gpu";
  const hostBytes = Math.max(0, (await peakResident()) - before - (isInHost ? deviceBytes : 0));
  const per = checkpointBytes / GB;
  const { maxLength } = model.sizes;
  const length = Math.min(options.length ?? 64, maxLength);
  const parameters = [...model.stateDict().values()].reduce((sum, p) => sum + p.size, 0);
  const found: ModelBench = {
    dtype,
    parameters,
    checkpointBytes,
    load: {
      seconds: loadSeconds,
      secondsPerGB: loadSeconds / per,
      touchSecondsPerGB: isInHost ? touchSeconds() : null,
      deviceBytes,
      hostBytes,
      hostBytesPerGB: hostBytes / per,
      arrayBytes,
    },
    baseBytes,
    training: null,
    generation: null,
  };
  if (loadOnly) return found;
  model.requiresGrad(false);
  onPhase?.("generating from the base");
  const speed = async (prompts = 1) => (await generationSpeed(model, prompts, seconds)).tokensPerSecond; // biome-ignore format: one line
  const [base, base8] = [await speed(), await speed(8)];
  const lora = addLora(model, { r: rank, target_modules: "all-linear" });
  fillAdapter(lora);
  onPhase?.("generating with an adapter");
  const adapter = await speed();
  onPhase?.("training");
  const { ms, spread, tokensPerSecond } = await trainingSpeed(model, batch, length, seconds);
  found.training = { rank, batch, length, ms, spread, tokensPerSecond };
  const isNarrow = [...model.stateDict().values()].some((p) => isQuantized(p.dtype));
  let merged: number | null = null;
  if (!isNarrow) {
    onPhase?.("generating from merged weights");
    lora.mergeAndUnload();
    merged = await speed();
  }
  found.generation = { base, base8, adapter, merged };
  return found;
}

async function bytesIn(folder: string): Promise<number> {
  const checkpoint = await Checkpoint.open(folder);
  await checkpoint.close();
  let sum = 0;
  for (const name of checkpoint.files.keys()) {
    const { begin, end } = checkpoint.entry(name)!;
    sum += end - begin;
  }
  return sum;
}

async function bytesByType(folder: string): Promise<ModelBench["baseBytes"]> {
  const sizes = await Promise.all(
    TYPES.map(async (type) => {
      const bytes = await bytesAs(folder, type).catch(refusedType);
      return [type, bytes] as const;
    }),
  );
  return Object.fromEntries(sizes) as ModelBench["baseBytes"];
}

/** Bytes of the parameters as `fromPretrained` would hold them; only headers are read. */
async function bytesAs(folder: string, type: BaseDtype): Promise<number> {
  const { model, bytes } = await outlinePretrained(folder, heldAs(type));
  model.dispose();
  return [...bytes.values()].reduce((sum, n) => sum + n, 0);
}

/** A folder of int8 cannot be held as nf4. */
function refusedType(error: unknown): null {
  if (error instanceof ValueError && error.arg === "quantize") return null;
  throw error;
}

/** Seconds that touching a gigabyte of memory takes that nobody had before. */
function touchSeconds(): number {
  const began = performance.now();
  new Uint8Array(GB / 8).fill(1);
  return (8 * (performance.now() - began)) / 1000;
}
