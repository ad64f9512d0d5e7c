// What is known on the CPU of integer tensors that were made there, so that an index that is out of
// range is an error at the call. Ids that the GPU computed are not known; kernels clamp those.
import { ValueError } from "../gpu/errors.ts";
import { replayed } from "../gpu/recording.ts";
import type { Storage } from "./storage.ts";
import type { Tensor } from "./tensor.ts";

export interface IdRange {
  min: number;
  max: number;
  /** Up to two distinct negative values: enough to tell an ignored one from others. */
  negative: readonly number[];
}

/** By storage, so that views share it; good for the version that was uploaded alone. */
const ranges = new WeakMap<Storage, IdRange & { version: number }>();

/** Records the extremes of a fresh i32 or u32 tensor whose bytes are these. */
export function rememberRange(t: Tensor, bytes: ArrayBuffer): void {
  if ((t.dtype !== "i32" && t.dtype !== "u32") || t.size === 0) return;
  const values = t.dtype === "i32" ? new Int32Array(bytes) : new Uint32Array(bytes);
  let min = values[0]!;
  let max = min;
  const negative: number[] = [];
  for (const v of values) {
    if (v < min) min = v;
    if (v > max) max = v;
    if (v < 0 && negative.length < 2 && !negative.includes(v)) negative.push(v);
  }
  ranges.set(t.storage, { min, max, negative, version: t.storage.version });
}

/** The extremes of an integer tensor, where it came from the CPU and was not written since. */
export function rangeOf(t: Tensor): IdRange | null {
  return currentRange(t.storage);
}

function currentRange(storage: Storage): IdRange | null {
  const known = ranges.get(storage);
  return known && known.version === storage.version ? known : null;
}

/**
 * Throws ValueError where an id is known to lie outside 0 … count − 1; in a captured step, at each replay.
 * @param ignored  an id that is allowed anyway, such as cross-entropy's −100
 */
export function checkIds(
  op: string,
  arg: string,
  ids: Tensor,
  count: number,
  ignored?: number,
): void {
  const { storage, size } = ids;
  replayed(() => checkRange(op, arg, storage, size, count, ignored));
}

function checkRange(
  op: string,
  arg: string,
  storage: Storage,
  size: number,
  count: number,
  ignored: number | undefined,
): void {
  const range = currentRange(storage);
  const below = range?.negative.find((v) => v !== ignored);
  const above = range && range.max >= count && range.max !== ignored ? range.max : undefined;
  const wrong = below ?? above ?? (count === 0 && size > 0 ? "ids" : undefined);
  if (wrong === undefined) return;
  const expected = count > 0 ? `in [0, ${count - 1}]` : "empty, for there is nothing to choose";
  const hint =
    ignored === undefined ? "Does the tokenizer fit the model?" : `Only ${ignored} is ignored.`;
  throw new ValueError({ op, arg, expected, got: `${wrong}`, hint: count > 0 ? hint : "" });
}
