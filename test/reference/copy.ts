// Permute, slice, concat and broadcast by multi-index, forward and backward.
import { type Numbers, ravel, sizeOf, unravel } from "./arrays.ts";

type Shape = readonly number[];

export function permute(x: Numbers, shape: Shape, axes: Shape): Float64Array {
  const out = axes.map((a) => shape[a]!);
  return Float64Array.from({ length: x.length }, (_, i) => {
    const at = unravel(i, out);
    const from = new Array<number>(shape.length);
    axes.forEach((a, k) => {
      from[a] = at[k]!;
    });
    return x[ravel(from, shape)]!;
  });
}

export function permuteBackward(dy: Numbers, shape: Shape, axes: Shape): Float64Array {
  const out = axes.map((a) => shape[a]!);
  const inverse = axes.map((_, i) => axes.indexOf(i));
  return permute(dy, out, inverse);
}

/** Flat positions in `shape` of the part start … start + n − 1 of an axis, in order. */
function positions(shape: Shape, axis: number, start: number, n: number): number[] {
  const part = shape.map((size, i) => (i === axis ? n : size));
  return Array.from({ length: sizeOf(part) }, (_, i) => {
    const at = unravel(i, part);
    at[axis]! += start;
    let flat = 0;
    shape.forEach((size, k) => {
      flat = flat * size + at[k]!;
    });
    return flat;
  });
}

export function slice(x: Numbers, shape: Shape, axis: number, start: number, end: number) {
  return Float64Array.from(positions(shape, axis, start, end - start), (p) => x[p]!);
}

export function sliceBackward(
  dy: Numbers,
  shape: Shape,
  axis: number,
  start: number,
  end: number,
): Float64Array {
  const dx = new Float64Array(sizeOf(shape));
  positions(shape, axis, start, end - start).forEach((p, i) => {
    dx[p] = dy[i]!;
  });
  return dx;
}

export function concat(
  list: readonly Numbers[],
  shapes: readonly Shape[],
  axis: number,
): Float64Array {
  const total = shapes.reduce((sum, s) => sum + s[axis]!, 0);
  const shape = shapes[0]!.map((n, i) => (i === axis ? total : n));
  const y = new Float64Array(sizeOf(shape));
  let start = 0;
  list.forEach((x, k) => {
    const n = shapes[k]![axis]!;
    positions(shape, axis, start, n).forEach((p, i) => {
      y[p] = x[i]!;
    });
    start += n;
  });
  return y;
}

export function broadcastTo(x: Numbers, from: Shape, to: Shape): Float64Array {
  return Float64Array.from({ length: sizeOf(to) }, (_, i) => x[ravel(unravel(i, to), from)]!);
}

export function broadcastToBackward(dy: Numbers, from: Shape, to: Shape): Float64Array {
  const dx = new Float64Array(sizeOf(from));
  for (let i = 0; i < dy.length; i++) dx[ravel(unravel(i, to), from)]! += dy[i]!;
  return dx;
}
