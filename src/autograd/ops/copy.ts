import { ShapeError, ValueError } from "../../gpu/errors.ts";
import { checkTensor } from "../../kernels/check.ts";
import { broadcastCopy, permuteCopy } from "../../kernels/copy.ts";
import { sumTo } from "../../kernels/reduce.ts";
import { checkShape, format, normalizeAxis, type Shape } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const permuteOp = op("permute", {
  forward: (x: Tensor, axes: Shape) => [permuteCopy(x, axes), { axes }],
  backward: (dy, { axes }) => {
    const order = axes;
    const inverse = order.map((_, i) => order.indexOf(i));
    return [permuteCopy(dy, inverse, "permute_backward")];
  },
});

/**
 * The axes in another order: y[i_axes[0], i_axes[1], …] = x[i_0, i_1, …]. Copies.
 * @param axes  a permutation of 0 … rank − 1; negative ones count from the end
 * @throws ValueError where it is not a permutation
 */
export function permute(x: Tensor, axes: Shape): Tensor {
  checkTensor("permute", "x", x);
  const order = axes.map((a) => normalizeAxis("permute", a, x.rank, "axes"));
  if (order.length !== x.rank || new Set(order).size !== x.rank) {
    const all = x.shape.map((_, i) => i);
    const expected = `a permutation of ${format(all)}`;
    throw new ValueError({ op: "permute", arg: "axes", expected, got: format(axes) });
  }
  return permuteOp(x, order);
}

/** Two axes exchanged; by default the last two. */
export function transpose(x: Tensor, i = -2, j = -1): Tensor {
  checkTensor("transpose", "x", x);
  const a = normalizeAxis("transpose", i, x.rank, "i");
  const b = normalizeAxis("transpose", j, x.rank, "j");
  return permuteOp(
    x,
    x.shape.map((_, k) => (k === a ? b : k === b ? a : k)),
  );
}

const broadcastOp = op("broadcast_to", {
  forward: (x: Tensor, shape: Shape) => [broadcastCopy(x, shape), { from: x.shape }],
  backward: (dy, { from }) => [sumTo("broadcast_to_backward", dy, from)],
});

/**
 * x repeated along axes of size 1 and along new leading axes. Copies; the ops broadcast by themselves.
 * @throws ShapeError where a size is neither equal nor 1
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  checkTensor("broadcast_to", "x", x);
  checkShape("broadcast_to", shape);
  const skip = shape.length - x.rank;
  if (skip >= 0 && x.shape.every((n, i) => n === 1 || n === shape[i + skip])) {
    return broadcastOp(x, shape);
  }
  throw new ShapeError({
    op: "broadcast_to",
    arg: "shape",
    expected: `one that x ${format(x.shape)} can be repeated to`,
    got: format(shape),
  });
}
