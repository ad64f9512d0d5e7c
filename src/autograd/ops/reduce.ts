import { ValueError } from "../../gpu/errors.ts";
import { checkNotEmpty, resultShape, runsOf } from "../../kernels/axes.ts";
import { checkDType } from "../../kernels/check.ts";
import { broadcastCopy } from "../../kernels/copy.ts";
import {
  type Fold,
  foldExtremeBackward,
  foldFirst,
  foldForward,
  foldOf,
  foldSquares,
  foldTies,
  foldVarBackward,
} from "../../kernels/reduce.ts";
import { scoped } from "../../tensor/scope.ts";
import { format, normalizeAxes, normalizeAxis, type Shape } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";
import { permute } from "./copy.ts";

/** Which axes: one, several, or all of them where undefined. */
export type Axes = number | readonly number[] | undefined;

export interface ReduceOptions {
  /** Keep reduced axes, with size 1. */
  keepDims?: boolean;
}

const sumOp = op("sum", {
  forward: (x: Tensor, fold: Fold, shape: Shape, scale: number) => [
    foldForward("sum", "sum", x, fold, shape, scale),
    { fold, scale, from: x.shape },
  ],
  backward: (dy, { fold, scale, from }) => {
    const { outer, R, inner } = fold;
    const one = { outer: dy.size, R: 1, inner: 1 };
    const d = scale === 1 ? dy : foldForward("sum_backward", "sum", dy, one, dy.shape, scale);
    const rows = d.view([outer, 1, inner]);
    return [broadcastCopy(rows, [outer, R, inner], "sum_backward").view(from)];
  },
});

const extremeOp = (name: "max" | "min") =>
  op(name, {
    forward: (x: Tensor, fold: Fold, shape: Shape) => {
      const y = foldForward(name, name, x, fold, shape);
      return [y, { x, y, fold }];
    },
    backward: (dy, { x, y, fold }) => {
      const ties = foldTies(`${name}_backward`, x, y, fold);
      return [foldExtremeBackward(dy, x, y, ties, fold)];
    },
  });

const maxOp = extremeOp("max");
const minOp = extremeOp("min");

const varOp = op("var", {
  forward: (x: Tensor, fold: Fold, shape: Shape, correction: number) => {
    const mean = foldForward("var", "sum", x, fold, shape, 1 / fold.R);
    const y = foldSquares("var", x, mean, fold, 1 / (fold.R - correction));
    return [y, { x, mean, fold, scale: 2 / (fold.R - correction) }];
  },
  backward: (dy, { x, mean, fold, scale }) => [foldVarBackward(dy, x, mean, fold, scale)],
});

/** Sum over axes; over all of them by default. f32, or i32 and u32 without a gradient. */
export function sum(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  checkDType("sum", "x", x, "f32", "i32", "u32");
  return summed("sum", x, axes, options, 1);
}

/** Mean over axes; over all of them by default. f32. */
export function mean(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  checkDType("mean", "x", x, "f32");
  const list = normalizeAxes("mean", axes, x.rank);
  const n = list.reduce((size, a) => size * x.shape[a]!, 1);
  checkNotEmpty("mean", x, n, resultShape(x.shape, list));
  return summed("mean", x, axes, options, 1 / Math.max(n, 1));
}

/** Largest element over axes. A gradient is shared evenly by equals, as torch.amax does. */
export function max(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  checkDType("max", "x", x, "f32", "i32", "u32");
  const { moved, fold, shape } = oneRun("max", x, axes, options);
  return maxOp(moved, fold, shape);
}

/** Smallest element over axes. A gradient is shared evenly by equals, as torch.amin does. */
export function min(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  checkDType("min", "x", x, "f32", "i32", "u32");
  const { moved, fold, shape } = oneRun("min", x, axes, options);
  return minOp(moved, fold, shape);
}

/**
 * Variance over axes: Σ (x − mean)² / (n − correction), in two passes.
 * @param options  `correction`: 1 (default) for the unbiased estimate, 0 for the population's
 * @throws ValueError where fewer elements than correction + 1 are reduced
 */
export function variance(
  x: Tensor,
  axes?: Axes,
  options: ReduceOptions & { correction?: number } = {},
): Tensor {
  checkDType("var", "x", x, "f32");
  const { correction = 1 } = options;
  const { moved, fold, shape } = oneRun("var", x, axes, options);
  if (fold.R > correction || moved.size === 0) return varOp(moved, fold, shape, correction);
  const expected = `of more than correction = ${correction} along the reduced axes`;
  throw new ValueError({ op: "var", arg: "x", expected, got: `${fold.R} of ${format(x.shape)}` });
}

/**
 * Position of the largest element along one axis, or in the flattened x; the first of equals.
 * @returns i32, without a gradient
 */
export function argmax(x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor {
  checkDType("argmax", "x", x, "f32");
  const axes = axis === undefined ? undefined : normalizeAxis("argmax", axis, x.rank);
  return scoped(() => {
    const { moved, fold, shape } = oneRun("argmax", x.view(x.shape), axes, options);
    return foldFirst("argmax", moved, foldForward("argmax", "max", moved, fold, shape), fold);
  });
}

/** Neighbouring axes are summed together, the last run first. */
function summed(name: string, x: Tensor, axes: Axes, options: ReduceOptions, scale: number) {
  const list = normalizeAxes(name, axes, x.rank);
  const done = resultShape(x.shape, list, options.keepDims);
  const runs = runsOf(list);
  let y = x;
  runs.forEach(([start, end], i) => {
    const last = i === runs.length - 1;
    const kept = y.shape.map((n, a) => (a >= start && a < end ? 1 : n));
    y = sumOp(y, foldOf(y.shape, start, end), last ? done : kept, last ? scale : 1);
  });
  if (runs.length > 0) return y;
  return sumOp(x, { outer: x.size, R: 1, inner: 1 }, done, scale);
}

/** x with its reduced axes side by side: moved to the end where they are scattered. */
function oneRun(name: string, x: Tensor, axes: Axes, options: ReduceOptions) {
  const list = normalizeAxes(name, axes, x.rank);
  const shape = resultShape(x.shape, list, options.keepDims);
  const runs = runsOf(list);
  const [from, to] = runs[0] ?? [x.rank, x.rank];
  const kept = x.shape.map((_, i) => i).filter((i) => !list.includes(i));
  const order = [...kept, ...list];
  const moved = runs.length > 1 ? permute(x, order) : x;
  const fold =
    runs.length > 1 ? foldOf(moved.shape, kept.length, x.rank) : foldOf(x.shape, from, to);
  checkNotEmpty(name, x, fold.R, shape);
  return { moved, fold, shape };
}
