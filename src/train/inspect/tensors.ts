// What a safetensors file holds, from its header alone; and single tensors on the host, without a device.
import { stat } from "node:fs/promises";
import { decode } from "../../tensor/dtype.ts";
import type { Entry } from "../../tensor/safetensors.ts";
import { SafetensorsFile } from "../../tensor/safetensors_file.ts";
import { sizeOf } from "../../tensor/shape.ts";

export interface TensorFacts {
  name: string;
  /** As the file names it, such as `BF16`. */
  dtype: string;
  shape: number[];
  elements: number;
  bytes: number;
}

/** How much there is of one type. */
export interface TypeFacts {
  tensors: number;
  elements: number;
  bytes: number;
}

export interface TensorsFacts {
  kind: "tensors";
  path: string;
  /** Of the whole file. */
  bytes: number;
  metadata: Record<string, string>;
  elements: number;
  types: Record<string, TypeFacts>;
  /** In the order of their bytes. */
  tensors: TensorFacts[];
}

/**
 * The tensors of a safetensors file.
 * @throws FormatError for a file that is none, or damaged
 */
export async function inspectTensors(path: string): Promise<TensorsFacts> {
  const file = await SafetensorsFile.open(path);
  await file.close();
  const { entries, metadata } = file.header;
  const tensors = factsOf(entries);
  const elements = tensors.reduce((sum, t) => sum + t.elements, 0);
  const { size: bytes } = await stat(path);
  return { kind: "tensors", path, bytes, metadata, elements, types: byType(tensors), tensors };
}

/** The facts of entries, in the order of their bytes. */
export function factsOf(entries: ReadonlyMap<string, Entry>): TensorFacts[] {
  const inOrder = [...entries].sort(([, a], [, b]) => a.begin - b.begin);
  return inOrder.map(([name, { dtype, shape, begin, end }]) => {
    return { name, dtype, shape, elements: sizeOf(shape), bytes: end - begin };
  });
}

/** Tensors, elements and bytes of each type, the type with most bytes first. */
export function byType(tensors: readonly TensorFacts[]): Record<string, TypeFacts> {
  const types = new Map<string, TypeFacts>();
  for (const { dtype, elements, bytes } of tensors) {
    const sum = types.get(dtype) ?? { tensors: 0, elements: 0, bytes: 0 };
    types.set(dtype, {
      tensors: sum.tensors + 1,
      elements: sum.elements + elements,
      bytes: sum.bytes + bytes,
    });
  }
  return Object.fromEntries([...types].sort(([, a], [, b]) => b.bytes - a.bytes));
}

/**
 * The numbers of a tensor, on the host.
 * @throws FormatError for a type that is not the library's
 */
export async function hostValues(file: SafetensorsFile, name: string): Promise<Float64Array> {
  const { begin, end, own, shape } = file.entry(name);
  const values = new Float64Array(sizeOf(shape));
  let at = 0;
  for await (const piece of file.pieces(begin, end)) {
    const part = decode(piece, own);
    values.set(part, at);
    at += part.length;
  }
  return values;
}
