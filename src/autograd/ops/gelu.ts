import { type GeluForm, geluBackward, geluBiasBackward, geluForward } from "../../kernels/gelu.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/**
 * Gaussian error linear unit: y = v·Φ(v), v = x + bias, or its tanh approximation.
 * @param x  [...], or [..., D] with a bias; f32
 * @param approximate  `none` (default): with erf. `tanh`: as in GPT-2
 * @param bias  [D] of f32, which the layer below leaves out; its gradient comes in the pass that makes dx
 * @throws DTypeError, ShapeError, ValueError
 * Source: Hendrycks & Gimpel 2016, arXiv 1606.08415. Saves x.
 */
export const gelu = op("gelu", {
  forward: (x: Tensor, approximate: GeluForm = "none", bias: Tensor | null = null) => [
    geluForward(x, approximate, bias),
    { x, approximate, bias },
  ],
  backward: (dy, { x, approximate, bias }, needs) => {
    if (!bias) return [geluBackward(dy, x, approximate)];
    const { dx, dbias } = geluBiasBackward(dy, x, approximate, bias, needs[2]);
    return [dx, null, dbias];
  },
});
