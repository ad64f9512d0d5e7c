// Element types: their sizes, and numbers to bytes and back. f16 and bf16 are storage types.
import { DTypeError, ValueError } from "../gpu/errors.ts";

export type DType = "f32" | "f16" | "bf16" | "i32" | "u32";

export const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "i32", "u32"];

/** Throws DTypeError for the name of a type that there is not. */
export function bytesPerElement(dtype: DType): number {
  if (dtype === "f16" || dtype === "bf16") return 2;
  if (DTYPES.includes(dtype)) return 4;
  const expected = `one of ${DTYPES.join(", ")}`;
  throw new DTypeError({ op: "tensor", arg: "dtype", expected, got: `${dtype}` });
}

/**
 * Numbers as the bytes of a type, rounded once to the nearest, ties to even.
 * @param op  name for messages
 * @throws ValueError for i32 and u32, where a number is not an integer in range
 */
export function encode(values: ArrayLike<number>, dtype: DType, op = "tensor"): Uint8Array {
  if (dtype === "i32" || dtype === "u32") checkIntegers(values, dtype, op);
  const { buffer } = arrayOf(values, dtype);
  return new Uint8Array(buffer);
}

function arrayOf(values: ArrayLike<number>, dtype: DType): ArrayBufferView<ArrayBuffer> {
  if (dtype === "f32") return new Float32Array(values);
  if (dtype === "i32") return new Int32Array(values);
  if (dtype === "u32") return new Uint32Array(values);
  const bits = oddBits(values);
  const halves = new Uint16Array(bits.length);
  const half = dtype === "f16" ? f16Of : bf16Of;
  for (let i = 0; i < bits.length; i++) halves[i] = half(bits[i]!);
  return halves;
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

/** f16 from the bits of an f32. A NaN stays one. */
function f16Of(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00 | ((size >>> 13) & 0x3ff);
  // From 65520 on the nearest is infinity.
  if (size >= 0x477ff000) return sign | 0x7c00;
  // From 2^-14 on: the exponent's bias goes from 127 to 15, and 13 bits of the fraction go.
  if (size >= 0x38800000) {
    return sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
  }
  // 2^-25 is a tie between 0 and 2^-24.
  if (size <= 0x33000000) return sign;
  // Subnormal: the significand in units of 2^-24.
  const significand = (size & 0x7fffff) | 0x800000;
  const shift = 126 - (size >>> 23);
  const whole = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (rest > tie || (rest === tie && whole % 2 === 1) ? whole + 1 : whole);
}

/** The numbers in the bytes of a type, in memory of their own: Float32Array for f32, f16 and bf16. */
export function decode(bytes: Uint8Array, dtype: DType): Float32Array | Int32Array | Uint32Array {
  const { buffer } = bytes.slice();
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

function fromF16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  const singles = new Float32Array(bits.buffer);
  for (let i = 0; i < bits.length; i++) {
    const half = halves[i]!;
    const sign = (half & 0x8000) << 16;
    const size = (half & 0x7fff) << 13;
    if (size >= 0x0f800000) bits[i] = sign | 0x70000000 | size;
    else {
      // Read as an f32 it is too small by the difference of the biases; subnormals come right as well.
      bits[i] = sign | size;
      singles[i]! *= 2 ** 112;
    }
  }
  return singles;
}
