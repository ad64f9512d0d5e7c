import { ShapeError } from "../../gpu/errors.ts";
import { checkTensor } from "../../kernels/check.ts";
import { checkShape, format, normalizeAxis, type Shape, sizeOf } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/** The same memory under another shape; nothing is copied. The shape has no −1 here. */
const viewAs = op("reshape", {
  forward: (x: Tensor, shape: Shape) => [x.view(shape), { from: x.shape }],
  backward: (dy, { from }) => [dy.view(from)],
});

/** The shape with −1 replaced by what is left. */
function complete(x: Tensor, shape: Shape): number[] {
  const rest = shape.reduce((size, n) => (n === -1 ? size : size * n), 1);
  const open = shape.filter((n) => n === -1).length;
  const full = shape.map((n) => (n === -1 && rest > 0 ? x.size / rest : n));
  const fits = open <= 1 && full.every((n) => Number.isInteger(n) && n >= 0);
  if (fits && sizeOf(full) === x.size) {
    checkShape("reshape", full);
    return full;
  }
  throw new ShapeError({
    op: "reshape",
    arg: "shape",
    expected: `of ${x.size} elements, as x ${format(x.shape)} has, with at most one -1`,
    got: format(shape),
  });
}

/**
 * The same elements in the same order under another shape. Shares memory; every type.
 * @param shape  sizes; one of them may be −1 and is worked out
 * @throws ShapeError where the number of elements differs
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  checkTensor("reshape", "x", x);
  return viewAs(x, complete(x, shape));
}

/**
 * Drops axes of size 1: the named one, or all of them.
 * @throws ShapeError where the named axis has another size
 */
export function squeeze(x: Tensor, axis?: number): Tensor {
  checkTensor("squeeze", "x", x);
  if (axis === undefined) {
    return viewAs(
      x,
      x.shape.filter((n) => n !== 1),
    );
  }
  const at = normalizeAxis("squeeze", axis, x.rank);
  if (x.shape[at] === 1)
    return viewAs(
      x,
      x.shape.filter((_, i) => i !== at),
    );
  throw new ShapeError({
    op: "squeeze",
    arg: "x",
    expected: `of size 1 along axis ${axis}`,
    got: format(x.shape),
  });
}

/** A new axis of size 1 before `axis`; −1 appends one. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  checkTensor("unsqueeze", "x", x);
  const at = normalizeAxis("unsqueeze", axis, x.rank + 1);
  const shape = [...x.shape.slice(0, at), 1, ...x.shape.slice(at)];
  checkShape("unsqueeze", shape);
  return viewAs(x, shape);
}
