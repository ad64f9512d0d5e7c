// A model's folder written anew with its linear layers quantised, and what that cost. Node only.
import { rm } from "node:fs/promises";
import { ValueError } from "../../gpu/errors.ts";
import { copyOthers } from "../../lora/merge_folder.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { TurnedConv1D } from "../../nn/layers.ts";
import { fromPretrained, type LoadOptions, savePretrained } from "../../nn/pretrained.ts";
import { Checkpoint } from "../../tensor/checkpoint.ts";
import { readJson } from "../../tensor/files.ts";
import { isQuantized, type QuantizedType } from "../../tensor/quantized.ts";
import { transposed } from "../../tensor/safetensors_file.ts";
import { checkOut, swapIn, temporaryFolder } from "../out_folder.ts";

/** Layers of one name, such as all `q_proj`. */
export interface QuantizedKind {
  name: string;
  layers: number;
  parameters: number;
  /** Of their weights in the files. */
  bytesBefore: number;
  bytesAfter: number;
  /** Largest |ŵ − w|. */
  largestError: number;
  /** ‖Ŵ − W‖/‖W‖ over all of them. */
  relativeError: number;
}

export interface QuantizeReport {
  type: QuantizedType;
  /** Of all tensors in the files. */
  bytesBefore: number;
  bytesAfter: number;
  kinds: QuantizedKind[];
}

export interface QuantizeOptions {
  /** Replaces a model's folder that is there. Default false. */
  overwrite?: boolean;
  onPhase?: (phase: string) => void;
  onProgress?: LoadOptions["onProgress"];
}

const op = "quantize";

/**
 * Writes a model with the weights of all linear layers but the output head as int8 or NF4, in the layout of
 * bitsandbytes. `fromPretrained` makes of it what it makes of the original with `quantize`, bit for bit. One tensor
 * after the other is read, rounded and written; the device holds the quantised model. The folder appears whole or not
 * at all.
 * @param model  folder of the model
 * @throws ValueError for a model that is quantised already, and an `out` that is there; as `fromPretrained`
 */
export async function quantizeFolder(
  model: string,
  type: QuantizedType,
  out: string,
  { overwrite = false, onPhase, onProgress }: QuantizeOptions = {},
): Promise<QuantizeReport> {
  await checkQuantizable(model, out, overwrite);
  const temporary = temporaryFolder(out);
  try {
    onPhase?.("reading and rounding");
    const options: LoadOptions = { quantize: type, ...(onProgress ? { onProgress } : {}) };
    using narrow = await fromPretrained(model, options);
    onPhase?.("writing");
    await savePretrained(narrow, temporary);
    await copyOthers(model, temporary, false);
    onPhase?.("comparing");
    const report = await compare(narrow, model, temporary, type);
    await swapIn(op, temporary, out, overwrite);
    return report;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {}); // the first error counts
    throw error;
  }
}

/**
 * What `quantizeFolder` refuses before it reads weights.
 * @throws ValueError
 */
export async function checkQuantizable(
  model: string,
  out: string,
  overwrite = false,
): Promise<void> {
  checkOut(op, out, [model], overwrite);
  const { quantization_config: before } = await readJson(`${model}/config.json`);
  if (before === undefined || before === null) return;
  const facts = { expected: "not quantised yet", got: "one with quantization_config" };
  throw new ValueError({ op, arg: model, ...facts });
}

async function compare(
  narrow: CausalLM,
  wideFolder: string,
  narrowFolder: string,
  type: QuantizedType,
): Promise<QuantizeReport> {
  const [wide, written] = [await Checkpoint.open(wideFolder), await Checkpoint.open(narrowFolder)];
  try {
    const sums = new Map<string, Sum>();
    for (const [path, layer] of narrow.namedModules()) {
      const { weight } = layer as { weight?: unknown };
      const p = narrow.stateDict().get(`${path}.weight`);
      if (!p || weight !== p || !isQuantized(p.dtype)) continue;
      const stored = [`${path}.weight`, `${path}.weight`.slice(narrow.bodyPrefix.length)];
      const name = stored.find((n) => wide.files.has(n))!;
      const values = await wide.files.get(name)!.values(name);
      const [rows, columns] = p.shape as [number, number];
      const turned = layer instanceof TurnedConv1D;
      const kind = path.split(".").pop()!;
      const sum = sums.get(kind) ?? new Sum();
      sums.set(kind, sum);
      sum.add(turned ? transposed(values, columns, rows) : values, await p.data());
      const { begin, end } = wide.entry(name)!;
      sum.bytesBefore += end - begin;
      sum.bytesAfter += p.bytes;
    }
    const kinds = [...sums].map(([name, sum]) => sum.kind(name));
    return { type, bytesBefore: bytesIn(wide), bytesAfter: bytesIn(written), kinds };
  } finally {
    await wide.close();
    await written.close();
  }
}

function bytesIn(checkpoint: Checkpoint): number {
  let sum = 0;
  for (const name of checkpoint.files.keys()) {
    const { begin, end } = checkpoint.entry(name)!;
    sum += end - begin;
  }
  return sum;
}

class Sum {
  bytesBefore = 0;
  bytesAfter = 0;
  private layers = 0;
  private parameters = 0;
  private largest = 0;
  private errors = 0;
  private squares = 0;

  add(before: ArrayLike<number>, after: ArrayLike<number>): void {
    for (let i = 0; i < before.length; i++) {
      const w = before[i]!;
      const error = Math.abs(after[i]! - w);
      if (error > this.largest) this.largest = error;
      this.errors += error * error;
      this.squares += w * w;
    }
    this.layers += 1;
    this.parameters += before.length;
  }

  kind(name: string): QuantizedKind {
    const { layers, parameters, bytesBefore, bytesAfter, largest } = this;
    const relativeError = this.squares === 0 ? 0 : Math.sqrt(this.errors / this.squares);
    return { name, layers, parameters, bytesBefore, bytesAfter, largestError: largest, relativeError }; // biome-ignore format: one line
  }
}
