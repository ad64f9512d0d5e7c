import {
  rmsNormAddForward,
  rmsNormBackward,
  rmsNormBackwardWeight,
  rmsNormForward,
} from "../../kernels/rms_norm.ts";
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

const addRule = op("rms_norm_add", {
  forward: (x: Tensor, residual: Tensor, weight: Tensor, eps: number) => {
    const { h, y, r } = rmsNormAddForward(x, residual, weight, eps);
    return [[h, y], { h, weight, r }];
  },
  backward: ([dh, dy], { h, weight, r }, [needsX, needsResidual, needsWeight]) => {
    if (!dy) return [dh, dh];
    const dx = needsX || needsResidual ? rmsNormBackward(dy, h, weight, r, dh) : null;
    return [dx, dx, needsWeight ? rmsNormBackwardWeight(dy, h, r) : null];
  },
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

/**
 * A sum and its norm in one kernel: h = x + residual, y = rmsNorm(h).
 * @param x  [..., D] of f32
 * @param residual  the shape of x, f32
 * @param weight  [D] of f32
 * @param eps  keeps the root away from 0
 * @returns h and y
 * @throws DTypeError, ShapeError
 */
export function rmsNormAdd(
  x: Tensor,
  residual: Tensor,
  weight: Tensor,
  eps = 1e-6,
): readonly [h: Tensor, y: Tensor] {
  return addRule(x, residual, weight, eps);
}
