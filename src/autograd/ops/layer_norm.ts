import {
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
  backward: (dy, { x, weight, stats }, [needsX, needsWeight, needsBias]) => {
    const dx = needsX ? layerNormBackward(dy, x, weight, stats) : null;
    if (!needsWeight && !needsBias) return [dx];
    const { dweight, dbias } = layerNormBackwardWeight(dy, x, stats);
    return [dx, needsWeight ? dweight : null, needsBias ? dbias : null];
  },
});

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
