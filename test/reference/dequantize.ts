// int8 and NF4 by their definitions, in float64 and by exhaustive search.
import type { Numbers } from "./arrays.ts";

/** The nearest of some levels, by its place; of two, the first. */
function nearest(levels: ArrayLike<number>, x: number): number {
  let best = 0;
  for (let i = 1; i < levels.length; i++) {
    if (Math.abs(levels[i]! - x) < Math.abs(levels[best]! - x)) best = i;
  }
  return best;
}

const absmax = (x: ArrayLike<number>) =>
  Array.from(x).reduce((m, v) => Math.max(m, Math.abs(v)), 0);

/** Each block of `size` neighbours as level·scale, the scale being its largest magnitude, or what `scales` makes of it. */
function blockwise(
  x: Numbers,
  size: number,
  levels: ArrayLike<number>,
  scales: (largest: Float64Array) => Numbers = (largest) => largest,
): Float64Array {
  const values = Float64Array.from(x);
  const blocks = Math.ceil(values.length / size);
  const largest = Float64Array.from({ length: blocks }, (_, i) =>
    absmax(values.subarray(i * size, (i + 1) * size)),
  );
  const used = scales(largest);
  return values.map((v, i) => {
    const block = Math.floor(i / size);
    if (largest[block] === 0) return 0;
    return levels[nearest(levels, v / largest[block]!)]! * used[block]!;
  });
}

/** What NF4 keeps of some numbers: blocks of 64, whose scales are quantised in turn, 256 together, about their mean. */
export function nf4(x: Numbers, levels: ArrayLike<number>, map: ArrayLike<number>): Float64Array {
  return blockwise(x, 64, levels, (largest) => {
    const mean = largest.reduce((sum, v) => sum + v, 0) / largest.length;
    const rest = largest.map((v) => v - mean);
    return blockwise(rest, 256, map).map((v) => v + mean);
  });
}

/** What int8 keeps of the rows of a matrix. */
export function int8(x: Numbers, columns: number): Float64Array {
  const levels = Array.from({ length: 255 }, (_, i) => (i - 127) / 127);
  return blockwise(x, columns, levels);
}
