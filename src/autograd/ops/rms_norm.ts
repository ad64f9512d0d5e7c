import { rmsNormBackward, rmsNormBackwardWeight, rmsNormForward } from "../../kernels/rms_norm.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const rule = op("rms_norm", {
  forward: (x: Tensor, weight: Tensor, eps: number) => {
    const { y, r } = rmsNormForward(x, weight, eps);
    return [y, { x, weight, r }];
  },
  backward: (dy, { x, weight, r }, [needsX, needsWeight]) => [
    needsX ? rmsNormBackward(dy, x, weight, r) : null,
    needsWeight ? rmsNormBackwardWeight(dy, x, r) : null,
  ],
});

/**
 * Root-mean-square norm over the last axis: x / √(mean(x²) + eps) · weight.
 * @param x  [..., D] of f32
 * @param weight  [D] of f32
 * @param eps  keeps the root away from 0
 * @throws DTypeError, ShapeError
 * @see Zhang & Sennrich 2019, arXiv 1910.07467
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps = 1e-6): Tensor {
  return rule(x, weight, eps);
}
