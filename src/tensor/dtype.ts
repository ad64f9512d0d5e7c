// interim stub: the codec helper overwrites this
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32";
export function bytesPerElement(d: DType): number {
  return d === "f16" || d === "bf16" ? 2 : 4;
}
export function encode(v: ArrayLike<number>, d: DType): Uint8Array {
  const a =
    d === "i32" ? Int32Array.from(v) : d === "u32" ? Uint32Array.from(v) : Float32Array.from(v);
  return new Uint8Array(a.buffer);
}
export function decode(b: Uint8Array, d: DType): Float32Array | Int32Array | Uint32Array {
  const c = b.slice().buffer;
  return d === "i32" ? new Int32Array(c) : d === "u32" ? new Uint32Array(c) : new Float32Array(c);
}
