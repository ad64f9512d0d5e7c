// Reductions over any axes: sum, mean, max, min, var, argmax.
import { type Array64, type Numbers, ravel, sizeOf, unravel } from "./arrays.ts";

export type ReduceName = "sum" | "mean" | "max" | "min" | "var" | "argmax";

/** Which axes: one, several, or all of them where undefined. */
export type Axes = number | readonly number[] | undefined;

export interface ReduceOptions {
  keepDims?: boolean;
  /** var divides by n − correction; default 1, as in PyTorch. */
  correction?: number;
}

/** The shape with reduced axes of size 1. */
function keptShape(shape: readonly number[], axes: Axes): number[] {
  if (axes === undefined) return shape.map(() => 1);
  const list = typeof axes === "number" ? [axes] : axes;
  const reduced = list.map((a) => (a < 0 ? a + shape.length : a));
  return shape.map((n, i) => (reduced.includes(i) ? 1 : n));
}

/** For each result, the flat positions of the elements that it reduces, in order. */
function groupsOf(shape: readonly number[], kept: readonly number[]): number[][] {
  const groups: number[][] = Array.from({ length: sizeOf(kept) }, () => []);
  for (let i = 0; i < sizeOf(shape); i++) groups[ravel(unravel(i, shape), kept)]!.push(i);
  return groups;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

const REDUCERS: Record<ReduceName, (values: number[], correction: number) => number> = {
  sum: (v) => v.reduce((a, b) => a + b, 0),
  mean: meanOf,
  max: (v) => v.reduce((a, b) => Math.max(a, b), -Infinity),
  min: (v) => v.reduce((a, b) => Math.min(a, b), Infinity),
  var: (v, correction) => {
    const mean = meanOf(v);
    return v.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (v.length - correction);
  },
  // The first of equals.
  argmax: (v) => v.reduce((best, x, i) => (x > v[best]! ? i : best), 0),
};

export function reduce(
  name: ReduceName,
  x: Numbers,
  shape: readonly number[],
  axes?: Axes,
  { keepDims = false, correction = 1 }: ReduceOptions = {},
): Array64 {
  const kept = keptShape(shape, axes);
  const groups = groupsOf(shape, kept);
  const data = Float64Array.from(groups, (group) =>
    REDUCERS[name](
      group.map((i) => x[i]!),
      correction,
    ),
  );
  const list = typeof axes === "number" ? [axes] : axes;
  const gone = list?.map((a) => (a < 0 ? a + shape.length : a));
  const squeezed = shape.filter((_, i) => gone !== undefined && !gone.includes(i));
  return { data, shape: keepDims ? kept : squeezed };
}

/** Gradient of x. At ties of max and min it is split evenly, as torch.amax does. */
export function reduceBackward(
  name: Exclude<ReduceName, "argmax">,
  dy: Numbers,
  x: Numbers,
  shape: readonly number[],
  axes?: Axes,
  { correction = 1 }: ReduceOptions = {},
): Float64Array {
  const dx = new Float64Array(x.length);
  groupsOf(shape, keptShape(shape, axes)).forEach((group, k) => {
    const values = group.map((i) => x[i]!);
    const n = group.length;
    const result = REDUCERS[name](values, correction);
    const ties = values.filter((v) => v === result).length;
    const mean = meanOf(values);
    for (const i of group) {
      const slope = {
        sum: 1,
        mean: 1 / n,
        max: x[i] === result ? 1 / ties : 0,
        min: x[i] === result ? 1 / ties : 0,
        var: (2 * (x[i]! - mean)) / (n - correction),
      }[name];
      dx[i] = dy[k]! * slope;
    }
  });
  return dx;
}
