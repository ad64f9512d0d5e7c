// y = mask ≠ 0 ? a : b with broadcasting.
import { type Array64, broadcast, type Numbers, ravel, sizeOf, unravel } from "./arrays.ts";

type Shape = readonly number[];
type Shapes = readonly [mask: Shape, a: Shape, b: Shape];

export function where(mask: Numbers, a: Numbers, b: Numbers, [sm, sa, sb]: Shapes): Array64 {
  const shape = broadcast(broadcast(sm, sa), sb);
  const data = Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
    const at = unravel(i, shape);
    return mask[ravel(at, sm)] !== 0 ? a[ravel(at, sa)]! : b[ravel(at, sb)]!;
  });
  return { data, shape };
}

/** Gradients of a and b. */
export function whereBackward(
  dy: Numbers,
  mask: Numbers,
  [sm, sa, sb]: Shapes,
): [Float64Array, Float64Array] {
  const shape = broadcast(broadcast(sm, sa), sb);
  const da = new Float64Array(sizeOf(sa));
  const db = new Float64Array(sizeOf(sb));
  for (let i = 0; i < sizeOf(shape); i++) {
    const at = unravel(i, shape);
    if (mask[ravel(at, sm)] !== 0) da[ravel(at, sa)]! += dy[i]!;
    else db[ravel(at, sb)]! += dy[i]!;
  }
  return [da, db];
}
