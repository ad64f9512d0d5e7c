import { type GeluForm, geluBackward, geluForward } from "../../kernels/gelu.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/**
 * Gaussian error linear unit: y = x·Φ(x), or its tanh approximation.
 * @param x  [...], f32
 * @param approximate  `none` (default): with erf. `tanh`: as in GPT-2
 * @throws DTypeError, ValueError
 * Source: Hendrycks & Gimpel 2016, arXiv 1606.08415. Saves x.
 */
export const gelu = op("gelu", {
  forward: (x: Tensor, approximate: GeluForm = "none") => [
    geluForward(x, approximate),
    { x, approximate },
  ],
  backward: (dy, { x, approximate }) => [geluBackward(dy, x, approximate)],
});
