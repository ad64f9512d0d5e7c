// Reductions over one run of axes, seen as [outer, R, inner]: checks, stages, dispatches.
import type { DType } from "../tensor/dtype.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("reduce");

/** How an array is seen by a reduction: the axes before, the axes reduced, the axes after. */
export interface Fold {
  outer: number;
  R: number;
  inner: number;
}

export type FoldName = "sum" | "max" | "min";

const OPS: Record<FoldName, number> = { sum: 0, max: 1, min: 2 };

/** One thread folds this many elements; longer axes take more stages. */
const PER_THREAD = 64;
/** Rows up to this long are folded by one thread without a stage in between. */
const SHORT_ROW = 32;

/** The fold of axes `from` … `to` − 1. */
export function foldOf(shape: Shape, from: number, to: number): Fold {
  return {
    outer: sizeOf(shape.slice(0, from)),
    R: sizeOf(shape.slice(from, to)),
    inner: sizeOf(shape.slice(to)),
  };
}

/** Sum, largest or smallest along R, times `scale`. y has `shape`, of outer · inner elements. */
export function foldForward(
  op: string,
  name: FoldName,
  x: Tensor,
  { outer, R, inner }: Fold,
  shape: Shape,
  scale = 1,
): Tensor {
  // A row of 4k elements is [k, 4]: four sums side by side, added up by the last stage.
  const asColumns = inner === 1 && R > SHORT_ROW && R % 4 === 0;
  const rows = asColumns ? R / 4 : R;
  const wide = asColumns ? 4 : inner;
  const S = stages(rows);
  const last = S === 1 && !asColumns;
  const y = Tensor.empty(op, last ? shape : [outer, S, wide], x.dtype);
  const width = wide % 4 === 0 ? 4 : 1;
  kernel.run("reduce_forward", {
    tensors: { x, y },
    params: { n: y.size / width, R: rows, S, inner: wide / width, scale: last ? scale : 1 },
    constants: { OP: OPS[name] },
    defines: types(x.dtype, width),
    groups: grid(Math.ceil(y.size / width / 64)),
  });
  if (last) return y;
  const next = asColumns ? { outer, R: S * 4, inner: 1 } : { outer, R: S, inner };
  const done = foldForward(op, name, y, next, shape, scale);
  y.dispose();
  return done;
}

/** Into how many parts a run of `rows` is cut: 1 where one thread does it all. */
function stages(rows: number): number {
  return rows <= PER_THREAD ? 1 : Math.ceil(rows / PER_THREAD);
}

function types(dtype: DType, width: number): Record<string, string> {
  return { T: dtype, V: width === 4 ? `vec4<${dtype}>` : dtype };
}

/** A first stage that compares each x with the value `m` of its result; the rest are plain folds. */
function compared(
  op: string,
  entry: "reduce_squares" | "reduce_ties" | "reduce_first",
  x: Tensor,
  m: Tensor,
  { outer, R, inner }: Fold,
  scale = 1,
): Tensor {
  const S = stages(R);
  const positions = entry === "reduce_first";
  const part = Tensor.empty(op, [outer, S, inner], positions ? "i32" : "f32");
  kernel.run(entry, {
    tensors: { m, xf: x, ...(positions ? { at_part: part } : { part }) },
    params: { n: part.size, R, S, inner, scale },
    groups: grid(Math.ceil(part.size / 64)),
  });
  const left = { outer, R: S, inner };
  const name = positions ? "min" : "sum";
  if (S === 1) return part.view(m.shape);
  return foldForward(op, name, part, left, m.shape);
}

/** Σ (x − mean)² · scale, in the shape of the mean. */
export function foldSquares(op: string, x: Tensor, mean: Tensor, fold: Fold, scale: number) {
  return compared(op, "reduce_squares", x, mean, fold, scale);
}

/** How many elements equal the extreme, as f32. */
export function foldTies(op: string, x: Tensor, extreme: Tensor, fold: Fold): Tensor {
  return compared(op, "reduce_ties", x, extreme, fold);
}

/** The first position along R that holds the extreme, as i32. */
export function foldFirst(op: string, x: Tensor, extreme: Tensor, fold: Fold): Tensor {
  return compared(op, "reduce_first", x, extreme, fold);
}

/** dx of max and min: dy shared evenly by the elements that equal the extreme. */
export function foldExtremeBackward(
  dy: Tensor,
  x: Tensor,
  extreme: Tensor,
  count: Tensor,
  { R, inner }: Fold,
): Tensor {
  const dx = Tensor.empty("reduce_backward_extreme", x.shape, "f32");
  kernel.run("reduce_backward_extreme", {
    tensors: { m: extreme, xf: x, dy, count, dx },
    params: { n: x.size, R, S: R, inner, scale: 1 },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return dx;
}

/** dx of var: dy · (x − mean) · scale. */
export function foldVarBackward(
  dy: Tensor,
  x: Tensor,
  mean: Tensor,
  { R, inner }: Fold,
  scale: number,
): Tensor {
  const dx = Tensor.empty("reduce_backward_var", x.shape, "f32");
  kernel.run("reduce_backward_var", {
    tensors: { m: mean, xf: x, dy, dx },
    params: { n: x.size, R, S: R, inner, scale },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return dx;
}

/** The sum over the axes along which `shape` was broadcast to x: the gradient of broadcasting. */
export function sumTo(op: string, x: Tensor, shape: Shape, scale = 1): Tensor {
  const skip = x.rank - shape.length;
  let at: number[] = [...x.shape];
  let y = x;
  // From the last axis to the first, whole runs of broadcast axes at a time.
  for (let to = x.rank; to > 0; to--) {
    const summed = (axis: number) => at[axis] !== (shape[axis - skip] ?? 1);
    if (!summed(to - 1)) continue;
    let from = to - 1;
    while (from > 0 && summed(from - 1)) from -= 1;
    const fold = foldOf(at, from, to);
    at = at.map((n, i) => (i >= from && i < to ? 1 : n));
    y = foldForward(op, "sum", y, fold, at, scale);
    scale = 1;
    to = from + 1;
  }
  if (scale !== 1) y = foldForward(op, "sum", y, { outer: y.size, R: 1, inner: 1 }, at, scale);
  return y.view(shape);
}
