// Choice by a mask: checks, output, dispatch.
import { ShapeError } from "../gpu/errors.ts";
import {
  broadcastShapes,
  broadcastStrides,
  coalesce,
  format,
  type Shape,
  sizeOf,
} from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";
import { broadcastCopy } from "./copy.ts";
import { grid, ownKernel } from "./kernel.ts";
import { bitsOf, checkOperands, type Operand, shapeOf } from "./operand.ts";

const kernel = ownKernel("where");

const MAX_WALK = 3;

/** y = mask ≠ 0 ? a : b in the common shape of the three. */
export function whereForward(mask: Tensor, a: Operand, b: Operand, op = "where"): Tensor {
  checkDType(op, "mask", mask, "u32", "i32", "f32");
  const numbers = typeof a === "number" && typeof b === "number";
  const { dtype, shape } = numbers
    ? { dtype: "f32" as const, shape: [] }
    : checkOperands(op, a, b, "f32", "i32", "u32");
  const out = commonShape(op, shape, mask.shape);
  const y = Tensor.empty(op, out, dtype);
  const values = {
    a_value: typeof a === "number" ? bitsOf(a, dtype) : 0,
    b_value: typeof b === "number" ? bitsOf(b, dtype) : 0,
  };
  dispatch(mask, a, b, y, values);
  return y;
}

function commonShape(op: string, shape: Shape, mask: Shape): number[] {
  try {
    return broadcastShapes(op, shape, mask);
  } catch {
    const expected = `broadcastable with a and b = ${format(shape)}`;
    throw new ShapeError({ op, arg: "mask", expected, got: format(mask) });
  }
}

function dispatch(
  mask: Tensor,
  a: Operand,
  b: Operand,
  y: Tensor,
  values: { a_value: number; b_value: number },
): void {
  const out = y.shape;
  const shapes = [mask.shape, shapeOf(a), shapeOf(b)];
  const joined = coalesce(out, ...shapes.map((s) => broadcastStrides(s, out)));
  const rank = joined.shape.length;
  if (rank > MAX_WALK) {
    const whole = (x: Operand) => (typeof x === "number" ? x : broadcastCopy(x, out, "where"));
    dispatch(broadcastCopy(mask, out, "where"), whole(a), whole(b), y, values);
    return;
  }
  const params: Record<string, number> = { n: sizeOf(out), ...values };
  ["c", "a", "b"].forEach((name, k) => {
    const strides = joined.strides[k]!;
    params[`${name}_outer`] = strides[0] ?? 0;
    for (const j of [1, 2]) params[`${name}${j}`] = strides[rank - j] ?? 0;
  });
  for (const j of [1, 2]) params[`size${j}`] = joined.shape[rank - j] ?? 1;
  kernel.run("where_forward", {
    tensors: {
      mask,
      a: typeof a === "number" ? mask : a,
      b: typeof b === "number" ? mask : b,
      y,
    },
    params,
    constants: {
      RANK: Math.max(rank, 1),
      A_SCALAR: Number(typeof a === "number"),
      B_SCALAR: Number(typeof b === "number"),
    },
    defines: { C: mask.dtype },
    groups: grid(Math.ceil(sizeOf(out) / 64)),
  });
}
