import { DTypeError, ShapeError, ValueError } from "../../gpu/errors.ts";
import { checkTensor } from "../../kernels/check.ts";
import { concatCopy, sliceCopy } from "../../kernels/copy.ts";
import { checkShape, format, normalizeAxis, type Shape, sameShape } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const concatOp = op("concat", {
  forward: (list: readonly Tensor[], axis: number) => [
    concatCopy(list, axis),
    { axis, sizes: list.map((x) => x.shape[axis]!) },
  ],
  backward: (dy, { axis, sizes }) => {
    let start = 0;
    const parts = sizes.map((size) => {
      start += size;
      return sliceCopy(dy, axis, start - size, start, "concat_backward");
    });
    return [parts];
  },
});

/**
 * Tensors one after another along an axis. Other sizes and types must agree.
 * @throws ShapeError, DTypeError, ValueError
 */
export function concat(list: readonly Tensor[], axis = 0): Tensor {
  const [first] = list;
  if (!first) {
    throw new ValueError({ op: "concat", arg: "list", expected: "not empty", got: "[]" });
  }
  list.forEach((x, i) => {
    checkTensor("concat", `list[${i}]`, x);
  });
  const at = normalizeAxis("concat", axis, first.rank);
  list.forEach((x, i) => {
    checkJoins(x, i, first, at);
  });
  const shape = first.shape.map((n, i) =>
    i === at ? list.reduce((sum, x) => sum + x.shape[at]!, 0) : n,
  );
  checkShape("concat", shape);
  return concatOp(list, at);
}

function checkJoins(x: Tensor, index: number, first: Tensor, axis: number): void {
  const arg = `list[${index}]`;
  if (x.dtype !== first.dtype) {
    throw new DTypeError({ op: "concat", arg, expected: first.dtype, got: x.dtype });
  }
  const open = (shape: Shape) => shape.map((n, i) => (i === axis ? -1 : n));
  if (sameShape(open(x.shape), open(first.shape))) return;
  const dims = first.shape.map((n, i) => (i === axis ? "n" : n)).join(", ");
  throw new ShapeError({ op: "concat", arg, expected: `[${dims}]`, got: format(x.shape) });
}
