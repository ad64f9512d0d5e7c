// Whether a checkpoint is that of a model: names, shapes, types and sizes, compared before anything is read.
import { gpu } from "../gpu/device.ts";
import { FormatError, LimitError } from "../gpu/errors.ts";
import type { PackedMatrix } from "../tensor/bitsandbytes.ts";
import type { Checkpoint } from "../tensor/checkpoint.ts";
import { bytesOf, type DType } from "../tensor/dtype.ts";
import { isQuantized } from "../tensor/quantized.ts";
import type { SafetensorsFile } from "../tensor/safetensors_file.ts";
import { format, type Shape, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Where a parameter comes from, and as what it will be held. */
export interface Source {
  /** Its name in the file. */
  name: string;
  file: SafetensorsFile;
  /** How it lies there where it is quantised already; null of plain elements. */
  packed: PackedMatrix | null;
  dtype: DType;
  /** Its shape in the model, which is that in the file turned where `turned`. */
  shape: Shape;
  turned: boolean;
  bytes: number;
}

/** A quantised matrix of the checkpoint, and the layer that it belongs to. */
export interface PackedLayer {
  matrix: PackedMatrix;
  /** The layer's weight is [in, out]: what is stored was turned when it was quantised. */
  turned: boolean;
}

export type WeightType = "f32" | "f16" | "bf16";

const FLOATS: Readonly<Record<string, WeightType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/**
 * Finds the stored tensor of every parameter.
 * @param own  the parameters by name
 * @param names  names in the files, by the names that they have in the model; null for what is passed over
 * @param packed  quantised ones among them, by their names in the files
 * @param dtype  what matrices are held as; `auto`: as they are stored. Vectors are always f32
 * @throws FormatError listing missing and surplus tensors, wrong shapes and types
 */
export function matchCheckpoint(
  own: ReadonlyMap<string, Tensor>,
  names: ReadonlyMap<string, string>,
  checkpoint: Checkpoint,
  packed: ReadonlyMap<string, PackedLayer>,
  dtype: WeightType | "auto",
): Map<string, Source> {
  const sources = new Map<string, Source>();
  const [missing, surplus, wrong]: [string[], string[], string[]] = [[], [], []];
  for (const path of own.keys()) if (!names.has(path)) missing.push(path);
  for (const [path, name] of names) {
    const p = own.get(path);
    const entry = checkpoint.entry(name)!;
    const { matrix = null, turned = false } = packed.get(name) ?? {};
    const plain = matrix?.shape ?? entry.shape;
    const shape = turned ? [...plain].reverse() : plain;
    const stored = matrix?.type ?? FLOATS[entry.dtype];
    if (!p) surplus.push(name);
    else if (!sameShape(shape, p.shape)) {
      wrong.push(`${name} is ${format(shape)}, expected ${format(p.shape)}`);
    } else if (!stored) wrong.push(`${name} is ${entry.dtype}, expected F32, F16 or BF16`);
    else {
      const held = p.rank === 1 ? "f32" : dtype === "auto" ? stored : dtype;
      const file = checkpoint.files.get(name)!;
      const bytes = bytesOf(shape, held);
      sources.set(path, { name, file, packed: matrix, dtype: held, shape, turned, bytes });
    }
  }
  const problems = [
    ...grouped(missing).map((name) => `missing ${name}`),
    ...grouped(surplus).map((name) => `surplus ${name}`),
    ...wrong,
  ];
  if (problems.length === 0) return sources;
  const count = missing.length + surplus.length + wrong.length;
  throw new FormatError(
    `load: ${count} tensors of ${checkpoint.folder} do not fit the model: ${problems.join("; ")}. ` +
      "Nothing was loaded.",
  );
}

/** Names that differ by their layer alone as one, such as `h.{0-11}.ln_1.bias`. */
export function grouped(names: readonly string[]): string[] {
  const layers = new Map<string, number[]>();
  for (const name of names) {
    const [, number] = name.match(/\.(\d+)\./) ?? [];
    const key = name.replace(/\.\d+\./, ".#.");
    const list = layers.get(key) ?? [];
    layers.set(key, list);
    if (number !== undefined) list.push(Number(number));
  }
  return [...layers].map(([key, list]) => {
    if (list.length === 0) return key;
    return key.replace("#", list.length === 1 ? `${list[0]}` : `{${ranges(list)}}`);
  });
}

function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(",");
}

/**
 * Refuses what the device cannot hold: a matrix larger than a buffer, another tensor larger than what a kernel
 * sees at once, or more than the memory that there is. A software device has the host's memory; of a GPU only its own refusal tells.
 * @throws LimitError listing the tensors, or naming the sum
 */
export async function checkFits(sources: ReadonlyMap<string, Source>): Promise<void> {
  const { pool, adapterClass } = gpu("load");
  const mostOf = ({ shape, dtype }: Source) =>
    shape.length === 2 && !isQuantized(dtype) ? pool.bufferLimit : pool.bindingLimit;
  const large = [...sources.values()].filter((source) => source.bytes > mostOf(source));
  if (large.length > 0) {
    const most = Math.min(...large.map(mostOf));
    throw new LimitError({
      op: "load",
      arg: "each tensor",
      expected: `at most ${most} bytes on this device`,
      got: large.map(({ name, bytes }) => `${name} of ${bytes}`).join(", "),
      hint: "Nothing was loaded.",
    });
  }
  if (adapterClass === "gpu") return;
  const { freemem } = await import("../tensor/disk.node.ts");
  const free = freemem();
  const needed = [...sources.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  if (needed <= free) return;
  throw tooLarge(needed, `${free} bytes, the memory that is free on this machine`);
}

/** The error for a model that the device cannot hold. */
export function tooLarge(needed: number, expected: string): LimitError {
  return new LimitError({
    op: "load",
    arg: "the model",
    expected: `at most ${expected}`,
    got: `${needed} bytes`,
    hint: 'Nothing was loaded. A smaller type takes less: `dtype: "bf16"`, or `quantize: "nf4"`.',
  });
}
