// swiglu(gate, up) = silu(gate)·up.
import { map, type Numbers } from "./arrays.ts";
import { silu, siluBackward } from "./silu.ts";

export function swiglu(gate: Numbers, up: Numbers): Float64Array {
  return map(silu(gate), (s, i) => s * up[i]!);
}

export function swigluBackward(
  dy: Numbers,
  gate: Numbers,
  up: Numbers,
): [Float64Array, Float64Array] {
  const dSilu = map(dy, (d, i) => d * up[i]!);
  return [siluBackward(dSilu, gate), map(silu(gate), (s, i) => s * dy[i]!)];
}
