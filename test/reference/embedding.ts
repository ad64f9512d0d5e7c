// y[i] = weight[ids[i]].
import type { Numbers } from "./arrays.ts";

/** weight [V, D], ids [...] → [..., D]. */
export function embedding(
  weight: Numbers,
  [, D]: readonly [V: number, D: number],
  ids: Numbers,
): Float64Array {
  return Float64Array.from({ length: ids.length * D }, (_, i) => {
    return weight[ids[Math.floor(i / D)]! * D + (i % D)]!;
  });
}

/** dweight: the rows of dy summed by id. */
export function embeddingBackward(
  dy: Numbers,
  [V, D]: readonly [V: number, D: number],
  ids: Numbers,
): Float64Array {
  const dWeight = new Float64Array(V * D);
  for (let i = 0; i < ids.length * D; i++) {
    dWeight[ids[Math.floor(i / D)]! * D + (i % D)]! += dy[i]!;
  }
  return dWeight;
}
