// torch.gather: y[..., k, ...] = x[..., ids[..., k, ...], ...].
import { type Numbers, unravel } from "./arrays.ts";

type Shape = readonly number[];

/** The flat position in x that each element of ids reads. */
function sources(shape: Shape, axis: number, ids: Numbers, idShape: Shape): number[] {
  return Array.from(ids, (id, i) => {
    const at = unravel(i, idShape);
    at[axis] = id;
    return at.reduce((flat, n, k) => flat * shape[k]! + n, 0);
  });
}

export function gather(
  x: Numbers,
  shape: Shape,
  axis: number,
  ids: Numbers,
  idShape: Shape,
): Float64Array {
  return Float64Array.from(sources(shape, axis, ids, idShape), (p) => x[p]!);
}

export function gatherBackward(
  dy: Numbers,
  shape: Shape,
  axis: number,
  ids: Numbers,
  idShape: Shape,
): Float64Array {
  const dx = new Float64Array(shape.reduce((a, b) => a * b, 1));
  sources(shape, axis, ids, idShape).forEach((p, i) => {
    dx[p]! += dy[i]!;
  });
  return dx;
}
