// y = x·mask, mask 0 or 1/(1 − p): element i is kept iff word i mod 4 of
// threefry4x32((⌊i/4⌋, 0, 0, 0), (key, 0, 0)) of 13 rounds is at least ⌊p·2³²⌋.
import { map, type Numbers } from "./arrays.ts";
import { threefry4x32 } from "./threefry.ts";

export type Key = readonly [number, number];

/** 0 or 1/(1 − p) for each of n elements. */
export function dropoutMask(n: number, p: number, key: Key): Float64Array {
  const threshold = Math.floor(p * 2 ** 32);
  return Float64Array.from({ length: n }, (_, i) => {
    const word = threefry4x32([i >>> 2, 0, 0, 0], [key[0], key[1], 0, 0])[i & 3]!;
    return word >= threshold ? 1 / (1 - p) : 0;
  });
}

export function dropout(x: Numbers, p: number, key: Key): Float64Array {
  const mask = dropoutMask(x.length, p, key);
  return map(x, (v, i) => v * mask[i]!);
}

export function dropoutBackward(dy: Numbers, p: number, key: Key): Float64Array {
  return dropout(dy, p, key);
}
