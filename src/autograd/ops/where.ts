import { type Operand, shapeOf } from "../../kernels/operand.ts";
import { sumTo } from "../../kernels/reduce.ts";
import { whereForward } from "../../kernels/where.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/**
 * Chooses element by element: y = mask ≠ 0 ? a : b. All three broadcast by NumPy's rules.
 * @param mask  u32 (as comparisons give), i32 or f32; gets no gradient
 * @param a  f32, i32, u32, or a number
 * @param b  of a's type, or a number
 */
export const where = op("where", {
  forward: (mask: Tensor, a: Operand, b: Operand) => [
    whereForward(mask, a, b),
    { mask, sa: shapeOf(a), sb: shapeOf(b) },
  ],
  backward: (dy, { mask, sa, sb }, needs) => [
    null,
    needs[1] ? sumTo("where_backward", whereForward(mask, dy, 0, "where_backward"), sa) : null,
    needs[2] ? sumTo("where_backward", whereForward(mask, 0, dy, "where_backward"), sb) : null,
  ],
});
