// Which axes a reduction folds and what shape is left; and tensors seen as rows of their last axis.
import { ValueError } from "../gpu/errors.ts";
import { format, type Shape, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";

/** What is left of a shape: without the reduced axes, or with size 1 there. */
export function resultShape(shape: Shape, axes: Shape, keepDims = false): number[] {
  if (keepDims) return shape.map((n, i) => (axes.includes(i) ? 1 : n));
  return shape.filter((_, i) => !axes.includes(i));
}

/** Runs of neighbouring axes, [from, to), the last first. */
export function runsOf(axes: Shape): [number, number][] {
  const runs: [number, number][] = [];
  for (const a of axes) {
    if (runs[0]?.[1] === a) runs[0][1] = a + 1;
    else runs.unshift([a, a + 1]);
  }
  return runs;
}

/** Throws ValueError where a result would be made of nothing. */
export function checkNotEmpty(op: string, x: Tensor, n: number, result: Shape): void {
  if (n > 0 || sizeOf(result) === 0) return;
  const expected = "of at least one element along the reduced axes";
  throw new ValueError({ op, arg: "x", expected, got: format(x.shape) });
}

/** x as rows of its last axis, [n, width]; n counts rows without elements too. */
export function rowsOf(x: Tensor): Tensor {
  return x.view([sizeOf(x.shape.slice(0, -1)), x.shape[x.rank - 1]!]);
}

/**
 * Rows start … end − 1 of x as a view that keeps x's memory alive.
 * They must begin at a multiple of 256 bytes, where a binding may begin.
 */
export function rowsBetween(x: Tensor, start: number, end: number): Tensor {
  if (start === 0 && end === x.shape[0]) return x.view(x.shape);
  const rowBytes = x.bytes / x.shape[0]!;
  const storage = x.storage.slice(start * rowBytes, (end - start) * rowBytes);
  return new Tensor(storage, [end - start, ...x.shape.slice(1)], x.dtype);
}
