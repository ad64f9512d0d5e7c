// Quantised matrices: how their bytes lie, and numbers to bytes and back on the host.
//   int8  w = q·a/127, a the largest magnitude of the row            8 bits, and 32 for each row
//   nf4   w = level[q]·a, a the largest magnitude of 64 neighbours   4 bits, and 8 for each block;
//         a = map[p]·b + mean, b that of 256 neighbouring a − mean   32 for each 256 blocks
import { ShapeError, ValueError } from "../gpu/errors.ts";
import { DYNAMIC_MAP, dynamicCode, NF4_LEVELS, nf4Code } from "./nf4.ts";
import { format, type Shape } from "./shape.ts";

/** Types of frozen matrices that are dequantised where they are used. */
export type QuantizedType = "int8" | "nf4";

export const QUANTIZED_TYPES: readonly QuantizedType[] = ["int8", "nf4"];

export function isQuantized(dtype: string): dtype is QuantizedType {
  return dtype === "int8" || dtype === "nf4";
}

/** Neighbours that share a scale in NF4, and scales that share one in turn. */
export const BLOCK = 64;
export const NESTED_BLOCK = 256;

/** 1/127 as f32. */
const INT8_UNIT = Math.fround(1 / 127);

/** The parts of a quantised matrix, in the order in which they lie; each begins at a word. */
export interface QuantizedParts {
  codes: Uint8Array<ArrayBuffer>;
  /** int8: the largest magnitude of each row. */
  absmax: Float32Array<ArrayBuffer>;
  /** NF4: codes in `DYNAMIC_MAP` of the blocks' largest magnitudes less their mean. */
  blocks: Uint8Array<ArrayBuffer>;
  /** NF4: the largest magnitude of each 256 of these, and their mean. */
  nested: Float32Array<ArrayBuffer>;
  mean: Float32Array<ArrayBuffer>;
  /** NF4: `DYNAMIC_MAP`, for kernels. */
  map: Float32Array<ArrayBuffer>;
}

const words = (bytes: number) => Math.ceil(bytes / 4);

/** Words of each part. */
function wordsOf(type: QuantizedType, shape: Shape): Record<keyof QuantizedParts, number> {
  if (shape.length !== 2) {
    const facts = { arg: "shape", expected: "[rows, columns]", got: format(shape) };
    throw new ShapeError({ op: type, ...facts, hint: "Only matrices are quantised." });
  }
  const [rows, columns] = shape as [number, number];
  const n = rows * columns;
  const none = { absmax: 0, blocks: 0, nested: 0, mean: 0, map: 0 };
  if (type === "int8") return { ...none, codes: words(n), absmax: rows };
  const blocks = Math.ceil(n / BLOCK);
  return {
    codes: words(Math.ceil(n / 2)),
    absmax: 0,
    blocks: words(blocks),
    nested: Math.ceil(blocks / NESTED_BLOCK),
    mean: 1,
    map: DYNAMIC_MAP.length,
  };
}

/** Bytes of a quantised matrix [rows, columns], scales included. */
export function quantizedBytes(type: QuantizedType, shape: Shape): number {
  return 4 * Object.values(wordsOf(type, shape)).reduce((sum, n) => sum + n, 0);
}

/** The parts as views of the bytes. */
export function quantizedParts(
  type: QuantizedType,
  shape: Shape,
  bytes: Uint8Array<ArrayBuffer>,
): QuantizedParts {
  const counts = wordsOf(type, shape);
  let at = bytes.byteOffset;
  const part = <T>(count: number, make: (buffer: ArrayBuffer, at: number) => T): T => {
    const view = make(bytes.buffer, at);
    at += 4 * count;
    return view;
  };
  const raw = (count: number, length: number) =>
    part(count, (buffer, at) => new Uint8Array(buffer, at, length));
  const floats = (count: number) =>
    part(count, (buffer, at) => new Float32Array(buffer, at, count));
  const n = shape[0]! * shape[1]!;
  const codes = raw(counts.codes, type === "int8" ? n : Math.ceil(n / 2));
  const absmax = floats(counts.absmax);
  const blocks = raw(counts.blocks, type === "int8" ? 0 : Math.ceil(n / BLOCK));
  const nested = floats(counts.nested);
  return { codes, absmax, blocks, nested, mean: floats(counts.mean), map: floats(counts.map) };
}

/**
 * A matrix's numbers as the bytes of a quantised type, rounded to the nearest level.
 * @param values  row-major, finite
 * @param shape  [rows, columns]
 * @param op  name for messages
 * @throws ValueError for what is not finite
 */
export function quantizeValues(
  values: Float32Array,
  shape: Shape,
  type: QuantizedType,
  op = "quantize",
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(quantizedBytes(type, shape));
  const parts = quantizedParts(type, shape, bytes);
  if (type === "int8") toInt8(values, shape[1]!, parts, op);
  else toNf4(values, parts, op);
  return bytes;
}

/** The largest magnitude of some neighbours. */
function largest(values: Float32Array, from: number, to: number, op: string): number {
  let most = 0;
  let sum = 0;
  for (let i = from; i < to; i++) {
    const size = Math.abs(values[i]!);
    if (size > most) most = size;
    sum += size; // one that is not finite makes it so; 2^32 that are cannot
  }
  if (Number.isFinite(sum)) return most;
  const facts = { arg: "the values", expected: "finite", got: "infinity or NaN" };
  throw new ValueError({ op, ...facts });
}

function toInt8(
  values: Float32Array,
  columns: number,
  { codes, absmax }: QuantizedParts,
  op: string,
): void {
  const signed = new Int8Array(codes.buffer, codes.byteOffset, codes.length);
  for (let row = 0; row < absmax.length; row++) {
    const [from, to] = [row * columns, (row + 1) * columns];
    const most = largest(values, from, to, op);
    absmax[row] = most;
    const factor = most > 0 ? Math.fround(127 / most) : 0;
    for (let i = from; i < to; i++) signed[i] = roundToEven(Math.fround(values[i]! * factor));
  }
}

/** To the nearest integer in [−127, 127], ties to even. */
function roundToEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  const up = rest > 0.5 || (rest === 0.5 && down % 2 !== 0);
  return Math.max(-127, Math.min(127, up ? down + 1 : down));
}

function toNf4(values: Float32Array, parts: QuantizedParts, op: string): void {
  const { codes, blocks, nested, mean, map } = parts;
  const { fround } = Math;
  const scales = new Float32Array(blocks.length);
  for (let block = 0; block < scales.length; block++) {
    const [from, to] = [block * BLOCK, Math.min((block + 1) * BLOCK, values.length)];
    const most = largest(values, from, to, op);
    scales[block] = most;
    const factor = most > 0 ? inverse(most) : 0;
    for (let i = from; i < to; i++) {
      const code = nf4Code(fround(values[i]! * factor));
      codes[i >> 1]! |= i % 2 === 0 ? code << 4 : code;
    }
  }
  if (values.length % 2 === 1) codes[codes.length - 1]! |= nf4Code(0);
  map.set(DYNAMIC_MAP);
  const total = scales.reduce((sum, a) => sum + a, 0);
  mean[0] = scales.length > 0 ? total / scales.length : 0;
  for (let i = 0; i < scales.length; i++) scales[i] = scales[i]! - mean[0]!;
  for (let group = 0; group < nested.length; group++) {
    const [from, to] = [group * NESTED_BLOCK, Math.min((group + 1) * NESTED_BLOCK, scales.length)];
    const most = largest(scales, from, to, op);
    nested[group] = most;
    const factor = most > 0 ? inverse(most) : 0;
    for (let i = from; i < to; i++) blocks[i] = dynamicCode(fround(scales[i]! * factor));
  }
}

/** 1/x in f32, or of the smallest numbers, whose inverse f32 lacks, the exact one. */
function inverse(x: number): number {
  const single = Math.fround(1 / x);
  return Number.isFinite(single) ? single : 1 / x;
}

/** The numbers that the bytes of a quantised matrix stand for. */
export function dequantizeValues(
  bytes: Uint8Array<ArrayBuffer>,
  shape: Shape,
  type: QuantizedType,
): Float32Array {
  const parts = quantizedParts(type, shape, bytes);
  const values = new Float32Array(shape[0]! * shape[1]!);
  if (type === "int8") {
    const { codes, absmax } = parts;
    const signed = new Int8Array(codes.buffer, codes.byteOffset, codes.length);
    for (let row = 0, i = 0; row < absmax.length; row++) {
      const scale = Math.fround(absmax[row]! * INT8_UNIT);
      for (const end = i + shape[1]!; i < end; i++) values[i] = signed[i]! * scale;
    }
    return values;
  }
  const { codes } = parts;
  const scales = blockScales(parts);
  for (let i = 0; i < values.length; i++) {
    const byte = codes[i >> 1]!;
    const code = i % 2 === 0 ? byte >> 4 : byte & 15;
    values[i] = NF4_LEVELS[code]! * scales[(i / BLOCK) | 0]!;
  }
  return values;
}

/** The largest magnitude of each block of NF4, as its two scales give it. */
export function blockScales({ blocks, nested, mean, map }: QuantizedParts): Float32Array {
  return Float32Array.from(blocks, (code, i) => {
    return Math.fround(map[code]! * nested[(i / NESTED_BLOCK) | 0]!) + mean[0]!;
  });
}
