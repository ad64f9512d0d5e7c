// y = x/√(mean(x²) + ε)·weight over the last axis.
import type { Numbers } from "./arrays.ts";

function inverseRms(x: Numbers, i: number, D: number, eps: number): number {
  let mean = 0;
  for (let j = 0; j < D; j++) mean += x[i * D + j]! ** 2 / D;
  return 1 / Math.sqrt(mean + eps);
}

export function rmsNorm(
  x: Numbers,
  shape: readonly number[],
  weight: Numbers | null = null,
  eps = 1e-5,
): Float64Array {
  const D = shape.at(-1)!;
  const y = new Float64Array(x.length);
  for (let i = 0; i < x.length / D; i++) {
    const r = inverseRms(x, i, D, eps);
    for (let j = 0; j < D; j++) y[i * D + j] = x[i * D + j]! * r * (weight?.[j] ?? 1);
  }
  return y;
}

/** [dx, dweight], the second as if the weight were there. */
export function rmsNormBackward(
  dy: Numbers,
  x: Numbers,
  shape: readonly number[],
  weight: Numbers | null = null,
  eps = 1e-5,
): [Float64Array, Float64Array] {
  const D = shape.at(-1)!;
  const dx = new Float64Array(x.length);
  const dWeight = new Float64Array(D);
  for (let i = 0; i < x.length / D; i++) {
    const r = inverseRms(x, i, D, eps);
    let dot = 0;
    for (let j = 0; j < D; j++) {
      dot += dy[i * D + j]! * (weight?.[j] ?? 1) * x[i * D + j]!;
      dWeight[j]! += dy[i * D + j]! * x[i * D + j]! * r;
    }
    for (let j = 0; j < D; j++) {
      dx[i * D + j] = r * (dy[i * D + j]! * (weight?.[j] ?? 1) - (x[i * D + j]! * r * r * dot) / D);
    }
  }
  return [dx, dWeight];
}
