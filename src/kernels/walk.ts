// Walks over memory by strides: which elements of an array a copy reads or writes, and in what units.
import { DTypeError } from "../gpu/errors.ts";
import { bytesPerElement } from "../tensor/dtype.ts";
import { coalesce, format, type Shape, sizeOf, stridesOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** How the strided side is walked: sizes and strides, outermost first, and where it begins. */
export interface Walk {
  shape: number[];
  strides: number[];
  offset: number;
}

/** The walk over a part of a contiguous array of `shape`, from `start` along `axis`. */
export function partOf(shape: Shape, axis: number, start: number, part: Shape): Walk {
  const strides = stridesOf(shape);
  return { shape: [...part], strides, offset: start * strides[axis]! };
}

/** The walk with joined axes, in words of 4 bytes. Throws DTypeError where it would split a pair. */
export function words(op: string, x: Tensor, walk: Walk): Walk {
  const joined = coalesce(walk.shape, walk.strides);
  const simple: Walk = {
    shape: joined.shape.length > 0 ? joined.shape : [1],
    strides: joined.shape.length > 0 ? joined.strides[0]! : [1],
    offset: walk.offset,
  };
  if (bytesPerElement(x.dtype) === 4 || sizeOf(walk.shape) === 0) return simple;
  const pairs = wider(simple, 2);
  if (pairs) return pairs;
  throw new DTypeError({
    op,
    arg: "x",
    expected: `of 4-byte elements, or ${x.dtype} in whole pairs`,
    got: `${x.dtype}${format(x.shape)}`,
    hint: 'Cast it first: x.cast("f32").',
  });
}

/** The same walk in units of k elements; null where a unit would be torn apart. */
export function wider({ shape, strides, offset }: Walk, k: number): Walk | null {
  const last = shape.length - 1;
  const whole = strides[last] === 1 && shape[last]! % k === 0 && offset % k === 0;
  if (!whole || strides.some((s, i) => i < last && s % k !== 0)) return null;
  return {
    shape: shape.map((n, i) => (i === last ? n / k : n)),
    strides: strides.map((s, i) => (i === last ? 1 : s / k)),
    offset: offset / k,
  };
}

/** The walk over tiles of 4×4 where the two inner axes are transposed; null where they are not. */
export function tiles({ shape, strides, offset }: Walk): Walk | null {
  const m = shape.length - 1;
  const n = m - 1;
  const turned = n >= 0 && strides[n] === 1 && shape[n]! % 4 === 0 && shape[m]! % 4 === 0;
  if (!turned || offset % 4 !== 0 || strides.some((s, i) => i !== n && s % 4 !== 0)) return null;
  return {
    shape: shape.map((size, i) => (i < n ? size : size / 4)),
    strides: strides.map((s, i) => (i < n ? s / 4 : s)),
    offset: offset / 4,
  };
}
