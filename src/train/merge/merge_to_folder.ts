// Adapters merged into a model's folder, with a certificate of what the written weights compute. Node only.
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { noGrad } from "../../autograd/graph.ts";
import { ValueError } from "../../gpu/errors.ts";
import {
  CERTIFICATE_FILE,
  type MergeCertificate,
  mergeWithCertificate,
} from "../../lora/certificate.ts";
import type { CombinationType } from "../../lora/combine.ts";
import type { Lora } from "../../lora/lora.ts";
import { copyOthers, mergeFolder } from "../../lora/merge_folder.ts";
import { loadAdapter } from "../../lora/peft.ts";
import { addWeightedAdapter } from "../../lora/weighted.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import type { WeightType } from "../../nn/fit_checkpoint.ts";
import { fromPretrained, type LoadProgress, savePretrained } from "../../nn/pretrained.ts";
import { tensor } from "../../tensor/create.ts";
import { readJson, writeFileSafely } from "../../tensor/files.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { checkOut, swapIn, temporaryFolder } from "../out_folder.ts";
import { requantize, type Survival, widen } from "./requantize.ts";

export interface WeightedFolder {
  name: string;
  folder: string;
  /** How often its update counts. */
  weight: number;
}

export interface MergeToFolderOptions {
  /** What matrices are written as, rounded once from f32 sums. Default: as the base stores them. */
  dtype?: WeightType;
  /** How several become one. Default `cat`: exactly the sum of the weighted updates. */
  combination?: CombinationType;
  /** Of the types that prune: the share of values that stay. */
  density?: number;
  /** Of `svd` and `…_svd`: the rank. */
  svdRank?: number;
  /**
   * Into quantised weights: rounds the sum to their type again, which may lose much of the update; the certificate
   * says how much. Without it such a base needs `dtype`, into which it is dequantised. Default false.
   */
  requantize?: boolean;
  /** One tensor after the other, in the memory of the largest: for a model that does not fit. Default false. */
  stream?: boolean;
  /** Compares logits of the written model and of the unmerged one, for which both are loaded. Default true. */
  certify?: boolean;
  /** Replaces a model's folder that is there. Default false. */
  overwrite?: boolean;
  onPhase?: (phase: string) => void;
  /** Called while a model is loaded, and with `stream` while it is merged. */
  onProgress?: (progress: LoadProgress) => void;
}

type Watching = Pick<MergeToFolderOptions, "onPhase" | "onProgress">;

/** A certificate, and of a merge into quantised weights what it lost. */
export interface FolderCertificate extends MergeCertificate {
  requantized?: Survival & {
    /** The largest change of a logit that the adapters make; `maxLogitDifference` beside it is what of it is wrong. */
    maxLogitUpdate: number;
  };
}

const op = "merge";
/** Sequences and most tokens of the probe. */
const PROBE = [2, 32] as const;

/**
 * Writes the base with the adapters merged into it to `out`, which `fromPretrained` and Transformers load. What is
 * not finite is refused. The folder appears whole or not at all.
 * @param base  folder of the model
 * @returns the certificate, which lies in the folder too: `maxLogitDifference` is measured on the model as it was
 *   written and loaded again; null without `certify`
 * @throws ValueError for options and adapters that do not go together, an `out` that is there, and quantised weights
 *   without `dtype` and `requantize`;
 *   FormatError where an adapter does not fit the base
 */
export async function mergeToFolder(
  base: string,
  adapters: readonly WeightedFolder[],
  out: string,
  options: MergeToFolderOptions = {},
): Promise<FolderCertificate | null> {
  const { stream = false, certify = true, overwrite = false, onPhase, onProgress } = options;
  await check(base, adapters, out, options);
  const temporary = temporaryFolder(out);
  try {
    let certificate: FolderCertificate | null = null;
    if (stream) {
      onPhase?.("merging tensor by tensor");
      await mergeFolder(base, adapters[0]!.folder, temporary, onProgress);
      if (certify) certificate = await certifyStreamed(base, adapters[0]!, temporary, options);
    } else certificate = await mergeLoaded(base, adapters, temporary, options);
    if (certificate) {
      const text = `${JSON.stringify(certificate, null, 2)}\n`;
      await writeFileSafely(`${temporary}/${CERTIFICATE_FILE}`, text);
    }
    await swapIn(op, temporary, out, overwrite);
    return certificate;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {}); // the first error counts
    throw error;
  }
}

const loading = ({ onProgress }: Watching) => (onProgress ? { onProgress } : {});

function refuse(arg: string, expected: string, got: string, hint = ""): never {
  throw new ValueError({ op, arg, expected, got, hint });
}

async function check(
  base: string,
  adapters: readonly WeightedFolder[],
  out: string,
  {
    stream = false,
    certify = true,
    overwrite = false,
    dtype,
    requantize = false,
  }: MergeToFolderOptions,
): Promise<void> {
  if (adapters.length === 0) refuse("adapters", "at least one", "none");
  const odd = adapters.find(({ weight }) => !Number.isFinite(weight));
  if (odd) refuse(`the weight of ${odd.name}`, "finite", `${odd.weight}`);
  const isPlain = adapters.length === 1 && adapters[0]!.weight === 1 && dtype === undefined;
  if (stream && !isPlain) {
    refuse("stream", "false, but for one adapter of weight 1 in the base's own type", "true");
  }
  checkOut(op, out, [base, ...adapters.map(({ folder }) => folder)], overwrite);
  const { quantization_config: quantised } = await readJson(`${base}/config.json`);
  if (quantised === undefined || quantised === null) {
    if (requantize)
      refuse("requantize", "false, for a base whose weights are not quantised", "true");
    return;
  }
  if (stream) refuse("stream", "false, for a base whose weights are quantised", "true");
  if (requantize && !certify) refuse("certify", "true, with requantize", "false");
  if (requantize && dtype) refuse("requantize", "false, with a dtype", "true");
  if (requantize || dtype) return;
  const hint =
    "Rounding the sum to so few bits loses most of the adapter. Merge into the model as it was before it was " +
    "quantised, or with dtype f32, f16 or bf16 into the dequantised weights; with requantize the sum is rounded, " +
    "and the certificate says what that lost.";
  refuse(base, "a model whose weights are not quantised", "one with quantization_config", hint);
}

/** Ids from the whole vocabulary, the same each time. */
function probeOf({ sizes: { vocabSize, maxLength } }: CausalLM): Tensor {
  const [B, T] = [PROBE[0], Math.min(PROBE[1], maxLength)];
  const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 2654435761 + 12345) % vocabSize);
  return tensor(ids, [B, T]);
}

async function logitsOf(model: CausalLM): Promise<Float32Array> {
  using _ = scope();
  model.eval();
  return (await noGrad(() => model.call(probeOf(model))).data()) as Float32Array;
}

/** Loads base and adapters, merges, writes. */
async function mergeLoaded(
  base: string,
  adapters: readonly WeightedFolder[],
  folder: string,
  options: MergeToFolderOptions,
): Promise<FolderCertificate | null> {
  const { dtype, certify = true, requantize: isRounded = false, onPhase } = options;
  onPhase?.("loading");
  using model = await fromPretrained(base, { dtype: dtype ? "f32" : "auto", ...loading(options) });
  model.requiresGrad(false);
  const widened = isRounded ? widen(model) : null;
  const plain = widened && certify ? await logitsOf(model) : null;
  const lora = await loadAll(model, adapters, options);
  onPhase?.("merging");
  const before = certify ? await logitsOf(model) : null;
  const certificate = await certified(lora, model);
  lora.unmerge();
  lora.mergeAndUnload(); // an embedding that is the head too gets a head of its own
  const survival = widened && (await requantize(model, widened));
  await savePretrained(model, folder, dtype ? { dtype } : {});
  await copyOthers(base, folder, false);
  if (!before) return null;
  const names = adapters.map(({ name, weight }) => (weight === 1 ? name : `${name}:${weight}`));
  // Bounds are of the types that were merged in; a type that is rounded to afterwards has others.
  const layers = !survival && (dtype === undefined || dtype === "f32") ? certificate.layers : {};
  const moved = await movedBy(before, folder, options);
  const merged = { ...certificate, adapters: names, layers, ...moved };
  if (!survival || !plain) return merged;
  const maxLogitUpdate = differenceOf(plain, before).maxLogitDifference;
  return { ...merged, requantized: { ...survival, maxLogitUpdate } };
}

async function certified(lora: Lora, model: CausalLM): Promise<MergeCertificate> {
  using _ = scope();
  return await mergeWithCertificate(lora, model, probeOf(model)); // the scope ends after it
}

async function loadAll(
  model: CausalLM,
  adapters: readonly WeightedFolder[],
  { combination = "cat", density, svdRank }: MergeToFolderOptions,
): Promise<Lora> {
  let lora: Lora | null = null;
  for (const { name, folder } of adapters) lora = await loadAdapter(lora ?? model, folder, name);
  const found = lora!;
  const isSum = adapters.length > 1 || adapters[0]!.weight !== 1;
  if (!isSum) return found;
  for (const { name } of adapters) {
    const { modules_to_save, bias } = found.config(name);
    if ((modules_to_save ?? []).length === 0 && bias === "none") continue;
    const got = `${name}, with ${bias === "none" ? "modules_to_save" : `bias ${bias}`}`;
    refuse("adapters that are weighted", "of updates alone", got);
  }
  const names = adapters.map(({ name }) => name);
  const weights = adapters.map(({ weight }) => weight);
  const free = ["merged", "merged2"].find((name) => !names.includes(name)) ?? "merged_adapters";
  await addWeightedAdapter(found, names, weights, free, {
    combination_type: combination,
    ...(density === undefined ? {} : { density }),
    ...(svdRank === undefined ? {} : { svd_rank: svdRank }),
  });
  found.setAdapter(free);
  return found;
}

async function certifyStreamed(
  base: string,
  { name, folder }: WeightedFolder,
  merged: string,
  watching: Watching,
): Promise<MergeCertificate> {
  watching.onPhase?.("loading the base");
  let before: Float32Array;
  let probe: readonly number[];
  {
    using model = await fromPretrained(base, loading(watching));
    await loadAdapter(model, folder, name);
    before = await logitsOf(model);
    probe = [PROBE[0], Math.min(PROBE[1], model.sizes.maxLength)];
  }
  return { adapters: [name], probe, ...(await movedBy(before, merged, watching)), layers: {} };
}

/** How far the logits of a written model are from those before. */
async function movedBy(
  before: Float32Array,
  folder: string,
  watching: Watching,
): Promise<{ maxLogitDifference: number; maxLogit: number }> {
  watching.onPhase?.("checking what was written");
  if (!existsSync(`${folder}/config.json`)) refuse(folder, "written", "no config.json");
  using model = await fromPretrained(folder, loading(watching));
  return differenceOf(before, await logitsOf(model));
}

function differenceOf(before: Float32Array, after: Float32Array) {
  let [maxLogitDifference, maxLogit] = [0, 0];
  for (const [i, v] of before.entries()) {
    maxLogitDifference = Math.max(maxLogitDifference, Math.abs(v - after[i]!));
    maxLogit = Math.max(maxLogit, Math.abs(v));
  }
  return { maxLogitDifference, maxLogit };
}
