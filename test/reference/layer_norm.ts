// y = (x − mean)/√(var + ε)·weight + bias over the last axis; var divides by n.
import type { Numbers } from "./arrays.ts";

/** Mean and 1/√(var + ε) of row i. */
function moments(x: Numbers, i: number, D: number, eps: number): [mean: number, rstd: number] {
  let mean = 0;
  for (let j = 0; j < D; j++) mean += x[i * D + j]! / D;
  let variance = 0;
  for (let j = 0; j < D; j++) variance += (x[i * D + j]! - mean) ** 2 / D;
  return [mean, 1 / Math.sqrt(variance + eps)];
}

export function layerNorm(
  x: Numbers,
  shape: readonly number[],
  weight: Numbers | null = null,
  bias: Numbers | null = null,
  eps = 1e-5,
): Float64Array {
  const D = shape.at(-1)!;
  const y = new Float64Array(x.length);
  for (let i = 0; i < x.length / D; i++) {
    const [mean, rstd] = moments(x, i, D, eps);
    for (let j = 0; j < D; j++) {
      y[i * D + j] = (x[i * D + j]! - mean) * rstd * (weight?.[j] ?? 1) + (bias?.[j] ?? 0);
    }
  }
  return y;
}

/** [dx, dweight, dbias], the last two as if weight and bias were there. */
export function layerNormBackward(
  dy: Numbers,
  x: Numbers,
  shape: readonly number[],
  weight: Numbers | null = null,
  eps = 1e-5,
): [Float64Array, Float64Array, Float64Array] {
  const D = shape.at(-1)!;
  const dx = new Float64Array(x.length);
  const dWeight = new Float64Array(D);
  const dBias = new Float64Array(D);
  for (let i = 0; i < x.length / D; i++) {
    const [mean, rstd] = moments(x, i, D, eps);
    const normal = (j: number) => (x[i * D + j]! - mean) * rstd;
    const dNormal = (j: number) => dy[i * D + j]! * (weight?.[j] ?? 1);
    let sum = 0;
    let dot = 0;
    for (let j = 0; j < D; j++) {
      sum += dNormal(j);
      dot += dNormal(j) * normal(j);
      dWeight[j]! += dy[i * D + j]! * normal(j);
      dBias[j]! += dy[i * D + j]!;
    }
    for (let j = 0; j < D; j++) {
      dx[i * D + j] = rstd * (dNormal(j) - sum / D - (normal(j) * dot) / D);
    }
  }
  return [dx, dWeight, dBias];
}
