// silu(x) = x·σ(x).
import { map, type Numbers } from "./arrays.ts";

export function sigmoid(x: number): number {
  const e = Math.exp(-Math.abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

export function silu(x: Numbers): Float64Array {
  return map(x, (v) => v * sigmoid(v));
}

export function siluBackward(dy: Numbers, x: Numbers): Float64Array {
  return map(x, (v, i) => {
    const s = sigmoid(v);
    return dy[i]! * (s + v * s * sigmoid(-v));
  });
}
