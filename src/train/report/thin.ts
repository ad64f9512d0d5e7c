// Thinning: long curves with fewer points that look the same.

/**
 * A curve with about `most` points: of each group of neighbours the lowest and the highest, in their order,
 * so that no spike is lost. Shorter curves are as they were.
 * @param value  what the curve shows of a point; null is a gap
 */
export function thin<T>(
  points: readonly T[],
  most: number,
  value: (point: T) => number | null,
): T[] {
  if (points.length <= most) return [...points];
  const groups = Math.max(1, Math.floor(most / 2));
  const thinned: T[] = [];
  for (let g = 0; g < groups; g++) {
    const from = Math.floor((g * points.length) / groups);
    const to = Math.floor(((g + 1) * points.length) / groups);
    const extremes = [from, from];
    for (let i = from; i < to; i++) {
      const x = value(points[i]!);
      if (x === null) continue;
      if (!(x >= (value(points[extremes[0]!]!) ?? Infinity))) extremes[0] = i;
      if (!(x <= (value(points[extremes[1]!]!) ?? -Infinity))) extremes[1] = i;
    }
    const [a, b] = extremes.sort((i, j) => i - j) as [number, number];
    thinned.push(...(a === b ? [points[a]!] : [points[a]!, points[b]!]));
  }
  return thinned;
}
