import { rowsOf } from "../../kernels/axes.ts";
import { loraLinearBackwardWeight } from "../../kernels/lora_linear.ts";
import {
  checkMixed,
  type Mixed,
  type MixedPlan,
  mixedBackwardA,
  mixedBackwardB,
  mixedBackwardS,
  mixedBackwardX,
  mixedForward,
  prepareMixed,
} from "../../kernels/lora_mixed.ts";
import { matmulForward } from "../../kernels/matmul.ts";
import { foldForward, foldOf } from "../../kernels/reduce.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

type List = readonly Tensor[];

const rule = op("lora_mixed", {
  forward: (x: Tensor, W: Tensor, bias: Tensor | null, As: List, Bs: List, plan: MixedPlan) => {
    const N = W.shape[plan.transposed ? 1 : 0]!;
    const own = { transposeB: !plan.transposed, ...(bias ? { bias } : {}) };
    const y = matmulForward(rowsOf(x), W, own);
    const { params, a, b, fours, uses } = prepareMixed(x, N, As, Bs, plan);
    const S = mixedForward(x, y, { params, a, b, fours, uses });
    const kept = { a, b, fours, uses, S, x, W, As: [...As], Bs: [...Bs], params, plan };
    return [y.view([...x.shape.slice(0, -1), N]), kept];
  },
  backward: (
    dy,
    { x, W, As, Bs, S, plan, ...rest },
    [needsX, needsW, needsBias, needsA, needsB],
  ) => {
    const mixed: Mixed = rest;
    const { transposed } = plan;
    const dS = needsX || needsA ? mixedBackwardS(dy, S, mixed) : null;
    const dx = needsX ? matmulForward(rowsOf(dy), W, { transposeB: transposed }) : null;
    if (dx) mixedBackwardX(dS!, dx, mixed);
    return [
      dx ? dx.view(x.shape) : null,
      needsW ? loraLinearBackwardWeight(dy, x, transposed, {}) : null,
      needsBias
        ? foldForward("lora_mixed", "sum", dy, foldOf(dy.shape, 0, dy.rank - 1), [dy.shape.at(-1)!])
        : null,
      needsA ? mixedBackwardA(dS!, x, As, mixed) : null,
      needsB ? mixedBackwardB(dy, S, Bs, mixed) : null,
    ];
  },
});

/**
 * Linear layer whose low-rank updates differ from sequence to sequence of a batch:
 * y_b = x_b·Wᵀ + bias + Σ s·(D(x_b)·Aᵀ)·Bᵀ, over the adapters of sequence b. The base's product is one.
 * Ranks, scales and which sequence uses what are data: no pipeline depends on them.
 * @param x  [sequences, tokens, in] of f32; `in` and `out` multiples of 4
 * @param weight  [out, in], or [in, out] where `plan.transposed`; f32, or frozen f16 or bf16
 * @param bias  [out] or null
 * @param as  A [r, in] of each adapter
 * @param bs  B [out, r] of each adapter
 * @param plan  scales, dropping and the adapters of each sequence, by index
 * @throws ShapeError, DTypeError, ValueError, LimitError
 * @see Chen et al. 2023, "Punica", arXiv 2310.18547; Sheng et al. 2023, "S-LoRA", arXiv 2311.03285
 */
export function loraMixed(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  as: readonly Tensor[],
  bs: readonly Tensor[],
  plan: MixedPlan,
): Tensor {
  checkMixed(x, weight.shape[plan.transposed ? 1 : 0]!, as, bs, plan);
  return rule(x, weight, bias, as, bs, plan);
}
