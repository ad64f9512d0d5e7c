// Scales all gradients by min(1, maxNorm/(norm + 1e-6)), norm over all of them together.
import type { Numbers } from "./arrays.ts";

export function clipGradNorm(
  gradients: readonly Numbers[],
  maxNorm: number,
): { norm: number; gradients: Float64Array[] } {
  let sum = 0;
  for (const g of gradients) for (let i = 0; i < g.length; i++) sum += g[i]! ** 2;
  const norm = Math.sqrt(sum);
  const factor = Math.min(1, maxNorm / (norm + 1e-6));
  return { norm, gradients: gradients.map((g) => Float64Array.from(g, (x) => x * factor)) };
}
