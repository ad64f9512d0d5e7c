// Element types: their sizes, and numbers to bytes and back. f16 and bf16 are storage types.
import { Float16Array } from "@petamoriken/float16";
import { DTypeError, ValueError } from "../gpu/errors.ts";
import { dequantizeValues, isQuantized, type QuantizedType, quantizedBytes } from "./quantized.ts";
import { type Shape, sizeOf } from "./shape.ts";

/** Types whose elements lie one after another. */
export type ElementType = "f32" | "f16" | "bf16" | "i32" | "u32";

/** int8 and nf4 are for frozen matrices, whose scales lie behind their codes. */
export type DType = ElementType | QuantizedType;

export const DTYPES: readonly ElementType[] = ["f32", "f16", "bf16", "i32", "u32"];

/** Throws DTypeError for the name of a type that there is not, and for a quantised one. */
export function bytesPerElement(dtype: DType, op = "tensor"): number {
  return checkElements(dtype, op) === "f16" || dtype === "bf16" ? 2 : 4;
}

function checkElements(dtype: DType, op: string): ElementType {
  if ((DTYPES as readonly DType[]).includes(dtype)) return dtype as ElementType;
  const expected = `one of ${DTYPES.join(", ")}`;
  const hint = isQuantized(dtype)
    ? `Make one of f32 first: \`await quantize(x, "${dtype}")\`.`
    : "";
  throw new DTypeError({ op, arg: "dtype", expected, got: `${dtype}`, hint });
}

/** Bytes of a tensor, with the scales of a quantised one. */
export function bytesOf(shape: Shape, dtype: DType, op = "tensor"): number {
  if (isQuantized(dtype)) return quantizedBytes(dtype, shape);
  return sizeOf(shape) * bytesPerElement(dtype, op);
}

/**
 * Numbers as the bytes of a type, rounded once to the nearest, ties to even.
 * @param op  name for messages
 * @throws ValueError for i32 and u32, where a number is not an integer in range; DTypeError for int8 and nf4
 */
export function encode(values: ArrayLike<number>, dtype: DType, op = "tensor"): Uint8Array {
  if (dtype === "i32" || dtype === "u32") checkIntegers(values, dtype, op);
  const { buffer } = arrayOf(values, checkElements(dtype, op));
  return new Uint8Array(buffer);
}

function arrayOf(values: ArrayLike<number>, dtype: ElementType): ArrayBufferView<ArrayBuffer> {
  if (dtype === "f32") return new Float32Array(values);
  if (dtype === "i32") return new Int32Array(values);
  if (dtype === "u32") return new Uint32Array(values);
  if (dtype === "f16") return new Uint16Array(new Float16Array(values).buffer);
  return Uint16Array.from(oddBits(values), bf16Of);
}

function checkIntegers(values: ArrayLike<number>, dtype: "i32" | "u32", op: string): void {
  const [low, high] = dtype === "i32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!;
    if (Number.isInteger(v) && v >= low && v <= high) continue;
    const expected = `integers in [${low}, ${high}], for ${dtype}`;
    throw new ValueError({ op, arg: `values[${i}]`, expected, got: `${v}` });
  }
}

/**
 * The bits of each number as f32. What f32 cannot hold is cut off and leaves an odd last bit (it is
 * rounded to odd), so that the next rounding, to 16 bits, gives what a single one would have given.
 */
function oddBits(values: ArrayLike<number>): Uint32Array {
  const singles = new Float32Array(values);
  const bits = new Uint32Array(singles.buffer);
  if (values instanceof Float32Array) return bits;
  for (let i = 0; i < bits.length; i++) {
    const v = values[i]!;
    const single = singles[i]!;
    if (single === v || Number.isNaN(v)) continue;
    if (Math.abs(single) > Math.abs(v)) bits[i]! -= 1;
    bits[i]! |= 1;
  }
  return bits;
}

/** The upper half of an f32. A NaN stays one. */
function bf16Of(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/**
 * The numbers in the bytes of a type, in memory of their own: Float32Array for all but the integers.
 * @param shape  of the tensor; only quantised ones need it
 */
export function decode(
  bytes: Uint8Array,
  dtype: DType,
  shape: Shape = [],
): Float32Array | Int32Array | Uint32Array {
  const { buffer } = bytes.slice();
  if (isQuantized(dtype)) return dequantizeValues(new Uint8Array(buffer), shape, dtype);
  if (dtype === "f32") return new Float32Array(buffer);
  if (dtype === "i32") return new Int32Array(buffer);
  if (dtype === "u32") return new Uint32Array(buffer);
  const halves = new Uint16Array(buffer);
  return dtype === "f16" ? fromF16(halves) : fromBf16(halves);
}

function fromBf16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}

/** What each pattern of 16 bits means. Looking up is 100 times faster than reading a Float16Array. */
let meanings: Float32Array | null = null;

function fromF16(halves: Uint16Array): Float32Array {
  const patterns = () => Uint16Array.from({ length: 65_536 }, (_, i) => i).buffer;
  const table = meanings ?? new Float32Array(new Float16Array(patterns()));
  meanings = table;
  const singles = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) singles[i] = table[halves[i]!]!;
  return singles;
}
