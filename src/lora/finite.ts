// Whether all numbers of a tensor are finite, by their bits.
import type { DType } from "../tensor/dtype.ts";

/** The bits of the exponent, all of which infinity and NaN have. */
const EXPONENT: Partial<Record<DType, number>> = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 };

export function allFinite(bytes: Uint8Array<ArrayBuffer>, dtype: DType): boolean {
  const mask = EXPONENT[dtype]!;
  const Words = dtype === "f32" ? Uint32Array : Uint16Array;
  const width = Words.BYTES_PER_ELEMENT;
  const words = new Words(bytes.buffer, bytes.byteOffset, bytes.byteLength / width);
  for (let i = 0; i < words.length; i++) if ((words[i]! & mask) === mask) return false;
  return true;
}
