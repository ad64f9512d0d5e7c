import {
  binaryBackward,
  binaryCompare,
  binaryForward,
  binaryPow,
  binaryPowBackward,
  type ComparisonName,
} from "../../kernels/binary.ts";
import { type Operand, shapeOf } from "../../kernels/operand.ts";
import { sumTo } from "../../kernels/reduce.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

// In all of these a and b broadcast by NumPy's rules; the gradient of an axis that was repeated is the
// sum over it, in a fixed order. A number may stand for either operand and costs no memory.

const wants = (x: Operand) => x instanceof Tensor && x.requiresGrad;

/** a + b. f32, or i32 and u32 without a gradient. */
export const add = op("add", {
  forward: (a: Operand, b: Operand) => [
    binaryForward("add", a, b),
    { sa: shapeOf(a), sb: shapeOf(b) },
  ],
  backward: (dy, { sa, sb }, needs) => [
    needs[0] ? sumTo("add_backward", dy, sa) : null,
    needs[1] ? sumTo("add_backward", dy, sb) : null,
  ],
});

/** a − b. f32, or i32 and u32 without a gradient. */
export const sub = op("sub", {
  forward: (a: Operand, b: Operand) => [
    binaryForward("sub", a, b),
    { sa: shapeOf(a), sb: shapeOf(b) },
  ],
  backward: (dy, { sa, sb }, needs) => [
    needs[0] ? sumTo("sub_backward", dy, sa) : null,
    needs[1] ? sumTo("sub_backward", dy, sb, -1) : null,
  ],
});

/** a · b, element by element. f32, or i32 and u32 without a gradient. Saves what the other needs. */
export const mul = op("mul", {
  forward: (a: Operand, b: Operand) => [
    binaryForward("mul", a, b),
    { a: wants(b) ? a : 0, b: wants(a) ? b : 0, sa: shapeOf(a), sb: shapeOf(b) },
  ],
  backward: (dy, { a, b, sa, sb }, needs) => [
    needs[0] ? sumTo("mul_backward", binaryForward("mul", dy, b), sa) : null,
    needs[1] ? sumTo("mul_backward", binaryForward("mul", dy, a), sb) : null,
  ],
});

/** a / b. f32. */
export const div = op("div", {
  forward: (a: Operand, b: Operand) => [
    binaryForward("div", a, b),
    { a: wants(b) ? a : 0, b, sa: shapeOf(a), sb: shapeOf(b) },
  ],
  backward: (dy, { a, b, sa, sb }, needs) => [
    needs[0] ? sumTo("div_backward", binaryForward("div", dy, b), sa) : null,
    needs[1] ? sumTo("div_backward", binaryBackward("div", dy, a, b), sb) : null,
  ],
});

/**
 * aᵇ, element by element, as IEEE 754 has it: a negative base has powers with whole exponents alone, and
 * NaN with others; a⁰ = 1, and 0 to a negative power is infinite. f32.
 *
 * The gradient of a is b·aᵇ⁻¹, 0 where b = 0; that of b is aᵇ·ln a, 0 where a = 0 and b ≥ 0.
 */
export const pow = op("pow", {
  forward: (a: Operand, b: Operand) => [binaryPow(a, b), { a, b, sa: shapeOf(a), sb: shapeOf(b) }],
  backward: (dy, { a, b, sa, sb }, needs) => [
    needs[0] ? sumTo("pow_backward", binaryPowBackward("a", dy, a, b), sa) : null,
    needs[1] ? sumTo("pow_backward", binaryPowBackward("b", dy, a, b), sb) : null,
  ],
});

const extreme = (name: "maximum" | "minimum") =>
  op(name, {
    forward: (a: Operand, b: Operand) => [binaryForward(name, a, b), { a, b }],
    backward: (dy, { a, b }, needs) => [
      needs[0] ? sumTo(`${name}_backward`, binaryBackward(name, dy, a, b), shapeOf(a)) : null,
      needs[1] ? sumTo(`${name}_backward`, binaryBackward(name, dy, b, a), shapeOf(b)) : null,
    ],
  });

/** The larger of a and b, element by element; equals share the gradient evenly. */
export const maximum = extreme("maximum");

/** The smaller of a and b, element by element; equals share the gradient evenly. */
export const minimum = extreme("minimum");

const comparison = (name: ComparisonName) => (a: Operand, b: Operand) => binaryCompare(name, a, b);

/** 1 where a = b, else 0, as u32; no gradient. So do `ne`, `lt`, `le`, `gt` and `ge`. */
export const eq = comparison("eq");
export const ne = comparison("ne");
export const lt = comparison("lt");
export const le = comparison("le");
export const gt = comparison("gt");
export const ge = comparison("ge");

export type { ComparisonName, Operand };
