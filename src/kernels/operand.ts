// Operands of elementwise ops: tensors that broadcast, and plain numbers.
import { DTypeError, ValueError } from "../gpu/errors.ts";
import type { DType } from "../tensor/dtype.ts";
import { broadcastShapes, type Shape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";

/** A tensor, or a number that stands for a tensor full of it. */
export type Operand = Tensor | number;

export interface Operands {
  /** The tensor whose type and device count. */
  first: Tensor;
  dtype: DType;
  /** The common shape. */
  shape: number[];
}

export function shapeOf(x: Operand): Shape {
  return typeof x === "number" ? [] : x.shape;
}

/** Checks two operands: types that agree, shapes that broadcast, numbers that fit. */
export function checkOperands(op: string, a: Operand, b: Operand, ...types: DType[]): Operands {
  if (typeof a !== "number") checkDType(op, "a", a, ...types);
  if (typeof b !== "number") checkDType(op, "b", b, ...types);
  const first = typeof a !== "number" ? a : b;
  if (typeof first === "number") {
    throw new ValueError({ op, arg: "a", expected: "a tensor, or b one", got: "two numbers" });
  }
  const { dtype } = first;
  if (typeof b !== "number" && b.dtype !== dtype) {
    const hint = `Cast one of them: b.cast("${dtype}").`;
    throw new DTypeError({ op, arg: "b", expected: `${dtype}, as a is`, got: b.dtype, hint });
  }
  if (typeof a === "number") checkNumber(op, "a", a, dtype);
  if (typeof b === "number") checkNumber(op, "b", b, dtype);
  return { first, dtype, shape: broadcastShapes(op, shapeOf(a), shapeOf(b)) };
}

function checkNumber(op: string, arg: string, x: number, dtype: DType): void {
  if (dtype === "f32") return;
  const [low, high] = dtype === "u32" ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
  if (Number.isInteger(x) && x >= low && x <= high) return;
  const expected = `an integer that ${dtype} holds`;
  throw new ValueError({ op, arg, expected, got: `${x}`, hint: "Cast the tensor to f32." });
}

const word = new DataView(new ArrayBuffer(4));

/** The 32 bits of a number in a type of 4 bytes. */
export function bitsOf(x: number, dtype: DType): number {
  if (dtype === "f32") word.setFloat32(0, x);
  else word.setUint32(0, x);
  return word.getUint32(0);
}
