import { siluBackward, siluForward } from "../../kernels/silu.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/**
 * Sigmoid linear unit: x·σ(x).
 * @param x  [...] of f32
 * @throws DTypeError
 * @see Elfwing et al. 2017, arXiv 1702.03118
 */
export const silu = op("silu", {
  forward: (x: Tensor) => [siluForward(x), { x }],
  backward: (dy, { x }) => [siluBackward(dy, x)],
});
