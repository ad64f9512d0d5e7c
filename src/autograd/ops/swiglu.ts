import { swigluBackward, swigluBackwardInPlace, swigluForward } from "../../kernels/swiglu.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/**
 * Gated linear unit with SiLU: gate·σ(gate)·up, in one kernel. In a model, where nobody else holds
 * gate and up, their gradients are written in their places.
 * @param gate  [...] of f32
 * @param up  the shape of gate, f32
 * @throws DTypeError, ShapeError
 * @see Shazeer 2020, arXiv 2002.05202
 */
export const swiglu = op("swiglu", {
  forward: (gate: Tensor, up: Tensor) => [swigluForward(gate, up), { gate, up }],
  backward: (dy, { gate, up }, _needs, last) => {
    const alone = last && !gate.storage.shared && !up.storage.shared;
    return alone ? swigluBackwardInPlace(dy, gate, up) : swigluBackward(dy, gate, up);
  },
});
