// Element types: their sizes, and numbers to bytes and back. f16 and bf16 are storage types.
import { Float16Array } from "@petamoriken/float16";
import { ValueError } from "../gpu/errors.ts";

export type DType = "f32" | "f16" | "bf16" | "i32" | "u32";

export const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "i32", "u32"];

export function bytesPerElement(dtype: DType): number {
  return dtype === "f16" || dtype === "bf16" ? 2 : 4;
}

/**
 * Numbers as the bytes of a type, rounded to the nearest, ties to even.
 * @throws ValueError for i32 and u32, where a number is not an integer in range
 */
export function encode(values: ArrayLike<number>, dtype: DType): Uint8Array {
  if (dtype === "i32" || dtype === "u32") checkIntegers(values, dtype);
  const array = arrayOf(values, dtype);
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function arrayOf(values: ArrayLike<number>, dtype: DType): ArrayBufferView {
  if (dtype === "f32") return Float32Array.from(values);
  if (dtype === "i32") return Int32Array.from(values);
  if (dtype === "u32") return Uint32Array.from(values);
  if (dtype === "f16") return Float16Array.from(values) as unknown as Uint16Array;
  return toBf16(values);
}

function checkIntegers(values: ArrayLike<number>, dtype: "i32" | "u32"): void {
  const [low, high] = dtype === "i32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!;
    if (Number.isInteger(v) && v >= low && v <= high) continue;
    const expected = `integers in [${low}, ${high}], for ${dtype}`;
    throw new ValueError({ op: "tensor", arg: `values[${i}]`, expected, got: `${v}` });
  }
}

/** The upper half of an f32, rounded to the nearest, ties to even. A NaN stays one. */
function toBf16(values: ArrayLike<number>): Uint16Array {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i]!;
    const nan = (b & 0x7fffffff) > 0x7f800000;
    // The sum may pass 2^32 for no finite number; >>> 16 drops nothing that counts.
    halves[i] = nan ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) / 0x10000;
  }
  return halves;
}

/** The numbers in the bytes of a type: Float32Array for f32, f16 and bf16. */
export function decode(bytes: Uint8Array, dtype: DType): Float32Array | Int32Array | Uint32Array {
  const { buffer } = bytes.slice();
  if (dtype === "f32") return new Float32Array(buffer);
  if (dtype === "i32") return new Int32Array(buffer);
  if (dtype === "u32") return new Uint32Array(buffer);
  if (dtype === "f16") return Float32Array.from(new Float16Array(buffer));
  const bits = Uint32Array.from(new Uint16Array(buffer), (half) => half << 16);
  return new Float32Array(bits.buffer);
}
