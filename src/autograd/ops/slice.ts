import { ValueError } from "../../gpu/errors.ts";
import { checkTensor } from "../../kernels/check.ts";
import { concatCopy, copyInto, sliceCopy } from "../../kernels/copy.ts";
import { zeros } from "../../tensor/create.ts";
import { format, normalizeAxis, type Shape } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const sliceOp = op("slice", {
  forward: (x: Tensor, axis: number, start: number, end: number) => [
    sliceCopy(x, axis, start, end),
    { shape: x.shape, axis, start },
  ],
  backward: (dy, { shape, axis, start }) => {
    const dx = zeros(shape);
    copyInto(dx, dy, axis, start);
    return [dx];
  },
});

/** All parts at once: their gradients become one tensor in one pass, where slices would each make a whole one. */
const splitOp = op("split", {
  forward: (x: Tensor, axis: number, sizes: readonly number[]) => {
    let start = 0;
    const parts = sizes.map((size) => {
      start += size;
      return sliceCopy(x, axis, start - size, start);
    });
    return [parts, { shapes: parts.map((part) => part.shape), axis }];
  },
  backward: (given, { shapes, axis }) => [
    concatCopy(
      given.map((dy, i) => dy ?? zeros(shapes[i]!)),
      axis,
      "split_backward",
    ),
  ],
});

/**
 * The part start … end − 1 along one axis. Copies.
 * @param start  first index; negative counts from the end
 * @param end  index after the last; default: the axis's size
 * @throws ValueError outside the axis
 */
export function slice(x: Tensor, axis: number, start: number, end?: number): Tensor {
  checkTensor("slice", "x", x);
  const at = normalizeAxis("slice", axis, x.rank);
  const n = x.shape[at]!;
  const from = start < 0 ? start + n : start;
  const to = end === undefined ? n : end < 0 ? end + n : end;
  if (Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= n) {
    return sliceOp(x, at, from, to);
  }
  throw new ValueError({
    op: "slice",
    arg: "start and end",
    expected: `within [0, ${n}], start first`,
    got: `${start} and ${end ?? n}`,
    hint: `x is ${format(x.shape)}, axis ${axis}.`,
  });
}

/**
 * Parts of x along an axis, one after another. Copies.
 * @param sizes  the size of every part (the last may be smaller), or a list that adds up to the axis
 */
export function split(x: Tensor, sizes: number | Shape, axis = 0): Tensor[] {
  checkTensor("split", "x", x);
  const at = normalizeAxis("split", axis, x.rank);
  const n = x.shape[at]!;
  const list = typeof sizes === "number" ? equalParts(n, sizes) : [...sizes];
  if (list.some((s) => !(s >= 0)) || list.reduce((a, b) => a + b, 0) !== n) {
    const expected = `sizes that add up to ${n}`;
    throw new ValueError({ op: "split", arg: "sizes", expected, got: format(list) });
  }
  return [...splitOp(x, at, list)];
}

function equalParts(n: number, size: number): number[] {
  if (!Number.isInteger(size) || size < 1) {
    throw new ValueError({ op: "split", arg: "sizes", expected: "at least 1", got: `${size}` });
  }
  return Array.from({ length: Math.ceil(n / size) }, (_, i) => Math.min(size, n - i * size));
}

/** x in `parts` parts along an axis, all of one size; the axis must be divisible. */
export function chunk(x: Tensor, parts: number, axis = 0): Tensor[] {
  checkTensor("chunk", "x", x);
  const n = x.shape[normalizeAxis("chunk", axis, x.rank)]!;
  if (!Number.isInteger(parts) || parts < 1 || n % parts !== 0) {
    const expected = `a divisor of ${n}, the size of axis ${axis}`;
    throw new ValueError({ op: "chunk", arg: "parts", expected, got: `${parts}` });
  }
  return split(x, Array<number>(parts).fill(n / parts), axis);
}
