import {
  layerNormAddForward,
  layerNormBackward,
  layerNormBackwardWeight,
  layerNormForward,
} from "../../kernels/layer_norm.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const rule = op("layer_norm", {
  forward: (x: Tensor, weight: Tensor, bias: Tensor, eps: number) => {
    const { y, stats } = layerNormForward(x, weight, bias, eps);
    return [y, { x, weight, stats }];
  },
  backward: (dy, { x, weight, stats }, [needsX, needsWeight, needsBias]) => [
    needsX ? layerNormBackward(dy, x, weight, stats) : null,
    ...parameterGradients(dy, x, stats, needsWeight, needsBias),
  ],
});

const addRule = op("layer_norm_add", {
  forward: (x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: number) => {
    const { h, y, stats } = layerNormAddForward(x, residual, weight, bias, eps);
    return [[h, y], { h, weight, stats }];
  },
  backward: ([dh, dy], { h, weight, stats }, [needsX, needsResidual, needsWeight, needsBias]) => {
    if (!dy) return [dh, dh];
    const dx = needsX || needsResidual ? layerNormBackward(dy, h, weight, stats, dh) : null;
    return [dx, dx, ...parameterGradients(dy, h, stats, needsWeight, needsBias)];
  },
});

/** dweight and dbias, which one kernel makes together. */
function parameterGradients(
  dy: Tensor,
  x: Tensor,
  stats: Tensor,
  needsWeight: boolean,
  needsBias: boolean,
): (Tensor | null)[] {
  if (!needsWeight && !needsBias) return [null, null];
  const { dweight, dbias } = layerNormBackwardWeight(dy, x, stats);
  return [needsWeight ? dweight : null, needsBias ? dbias : null];
}

/**
 * Layer norm over the last axis: (x − mean) / √(variance + eps) · weight + bias.
 * @param x  [..., D] of f32
 * @param weight  [D] of f32
 * @param bias  [D] of f32
 * @param eps  keeps the root away from 0
 * @throws DTypeError, ShapeError
 * @see Ba, Kiros & Hinton 2016, arXiv 1607.06450
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-5): Tensor {
  return rule(x, weight, bias, eps);
}

/**
 * A sum and its norm in one kernel: h = x + residual, y = layerNorm(h).
 * @param x  [..., D] of f32
 * @param residual  the shape of x, f32
 * @param weight  [D] of f32
 * @param bias  [D] of f32
 * @param eps  keeps the root away from 0
 * @returns h and y
 * @throws DTypeError, ShapeError
 */
export function layerNormAdd(
  x: Tensor,
  residual: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps = 1e-5,
): readonly [h: Tensor, y: Tensor] {
  return addRule(x, residual, weight, bias, eps);
}
