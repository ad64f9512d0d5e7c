// The two tables of NF4 with double quantisation, as bitsandbytes has them.

/**
 * What the 16 codes of NF4 mean: the quantiles of a normal distribution, scaled to [−1, 1], one of them 0
 * (Dettmers et al. 2023, arXiv 2305.14314). Each is an f32.
 */
export const NF4_LEVELS: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1,
];

const MIDPOINTS = NF4_LEVELS.slice(1).map((level, i) => (level + NF4_LEVELS[i]!) / 2);

/** The code whose level is nearest to x; of two, the lower. */
export function nf4Code(x: number): number {
  return above(MIDPOINTS, x);
}

/** How many of the sorted numbers lie below x. */
function above(sorted: ArrayLike<number>, x: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x > sorted[middle]!) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The signed dynamic map of 8 bits, ascending: 0, 1, and ± the middles of 2^i equal parts of [0.1, 1] times
 * 10^(i − 6), for i from 0 to 6 (Dettmers 2016, arXiv 1511.04561). Each is an f32.
 */
export const DYNAMIC_MAP: Float32Array = dynamicMap();

function dynamicMap(): Float32Array {
  const { fround } = Math;
  const values = [0, 1];
  for (let i = 0; i <= 6; i++) {
    const bounds = linspace(fround(0.1), 1, 2 ** i + 1);
    for (let j = 0; j < 2 ** i; j++) {
      const middle = fround(fround(bounds[j]! + bounds[j + 1]!) / 2);
      const value = fround(fround(10 ** (i - 6)) * middle);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}

/** As PyTorch computes it in f32: from both ends to the middle, each by a fused multiply-add. */
function linspace(from: number, to: number, steps: number): number[] {
  const { fround } = Math;
  const step = fround(fround(to - from) / (steps - 1));
  return Array.from({ length: steps }, (_, i) =>
    i < steps >> 1 ? fround(from + step * i) : fround(to - step * (steps - 1 - i)),
  );
}

const DYNAMIC_MIDPOINTS = Float64Array.from(
  { length: 255 },
  (_, i) => (DYNAMIC_MAP[i]! + DYNAMIC_MAP[i + 1]!) / 2,
);

/** The place in `DYNAMIC_MAP` of the value nearest to x; of two, the lower. */
export function dynamicCode(x: number): number {
  return above(DYNAMIC_MIDPOINTS, x);
}
