import { ValueError } from "../../gpu/errors.ts";
import {
  checkLoraLinear,
  type LoraPlan,
  loraLinearBackwardA,
  loraLinearBackwardB,
  loraLinearBackwardS,
  loraLinearBackwardWeight,
  loraLinearBackwardX,
  loraLinearForward,
} from "../../kernels/lora_linear.ts";
import { foldForward, foldOf } from "../../kernels/reduce.ts";
import { type Key, nextKey } from "../../tensor/philox.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";
import { onto } from "./onto.ts";

const rule = op("lora_linear", {
  forward: (x: Tensor, W: Tensor, bias: Tensor | null, A: Tensor, B: Tensor, plan: LoraPlan) => {
    const { y, S } = loraLinearForward(x, W, bias, A, B, plan);
    return [y, { x, W, A, B, S, plan }];
  },
  backward: (dy, saved, [needsX, needsW, needsBias, needsA, needsB], _, totals) => {
    const { x, W, A, B, S, plan } = saved;
    const dS = needsX || needsA ? loraLinearBackwardS(dy, B, plan.scale) : null;
    return [
      needsX ? onto(totals[0], x.shape, (o) => loraLinearBackwardX(dy, dS!, W, A, plan, o)) : null,
      needsW
        ? onto(totals[1], W.shape, (o) => loraLinearBackwardWeight(dy, x, plan.transposed, o))
        : null,
      needsBias ? biasGradient(dy) : null,
      needsA ? onto(totals[3], A.shape, (o) => loraLinearBackwardA(dS!, x, plan, o)) : null,
      needsB ? onto(totals[4], B.shape, (o) => loraLinearBackwardB(dy, S, o)) : null,
    ];
  },
});

function biasGradient(dy: Tensor): Tensor {
  const out = dy.shape[dy.rank - 1]!;
  return foldForward("lora_linear", "sum", dy, foldOf(dy.shape, 0, dy.rank - 1), [out]);
}

export interface LoraLinearOptions {
  /** s, such as lora_alpha/r. Default 1. */
  scale?: number;
  /** Probability with which elements of the adapter's input are dropped. Default 0. */
  dropout?: number;
  /** Off: nothing is dropped. Default true. */
  training?: boolean;
  /** The weight is stored [in, out], as GPT-2's are. Default false. */
  transposed?: boolean;
}

/**
 * Linear layer with a low-rank update: y = x·Wᵀ + bias + s·(D(x)·Aᵀ)·Bᵀ, D being dropout.
 * A frozen weight costs no gradient; of the update only S = D(x)·Aᵀ [rows, r] is kept for backward.
 * @param x  [..., in] of f32
 * @param weight  [out, in], or [in, out] where `transposed`; f32, or frozen f16, bf16, int8 or nf4
 * @param bias  [out] or null
 * @param a  [r, in] of f32
 * @param b  [out, r] of f32
 * @throws ShapeError, DTypeError, ValueError
 * @see Hu et al. 2021, arXiv 2106.09685
 */
export function loraLinear(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  a: Tensor,
  b: Tensor,
  options: LoraLinearOptions = {},
): Tensor {
  const { scale = 1, dropout = 0, training = true, transposed = false } = options;
  if (!(dropout >= 0 && dropout < 1)) {
    const facts = { arg: "dropout", expected: "in [0, 1)", got: `${dropout}` };
    throw new ValueError({ op: "lora_linear", ...facts });
  }
  checkLoraLinear(x, weight, bias, a, b, transposed);
  const p = training ? dropout : 0;
  const key: Key = p > 0 ? nextKey() : [0, 0];
  return rule(x, weight, bias, a, b, { scale, transposed, p, key });
}
