import { ropeRotate } from "../../kernels/rope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const rule = op("rope", {
  forward: (x: Tensor, cos: Tensor, sin: Tensor, offset: number) => [
    ropeRotate("rope_forward", x, cos, sin, offset),
    { cos, sin, offset },
  ],
  backward: (dy, { cos, sin, offset }) => [ropeRotate("rope_backward", dy, cos, sin, offset)],
});

/**
 * Rotary position embedding: pair (i, i + d/2) of each head turns by position · theta^(−2i/d).
 * @param x  [B, T, H, d] of f32, d even
 * @param cos  [positions, d/2], from `ropeTables`
 * @param sin  [positions, d/2], from `ropeTables`
 * @param options  `offset`: the position of the first row, default 0
 * @throws DTypeError, ShapeError, ValueError where the tables are too short
 * @see Su et al. 2021, arXiv 2104.09864
 */
export function rope(
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  options: { offset?: number } = {},
): Tensor {
  return rule(x, cos, sin, options.offset ?? 0);
}
