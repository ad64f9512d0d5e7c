import {
  crossEntropyBackward,
  crossEntropyForward,
  type LossReduction,
} from "../../kernels/cross_entropy.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const rule = op("cross_entropy", {
  forward: (logits: Tensor, targets: Tensor, ignoreIndex: number, reduction: LossReduction) => {
    const { y, lse, count } = crossEntropyForward(logits, targets, ignoreIndex, reduction);
    return [y, { logits, targets, lse, count, ignoreIndex, reduction }];
  },
  backward: (dy, { logits, targets, lse, count, ignoreIndex, reduction }) => [
    crossEntropyBackward(dy, logits, targets, { lse, count }, ignoreIndex, reduction),
  ],
});

/**
 * Cross-entropy of classes: −log softmax(logits)[target], in nats.
 * @param logits  [N, V] of f32
 * @param targets  [N] of i32 or u32: classes in [0, V), or `ignoreIndex`
 * @param options  `ignoreIndex`: rows with this target count for nothing, default −100;
 *   `reduction`: "mean" over the rows that count (0 where none does), "sum", or "none" for [N]
 * @throws DTypeError, ShapeError, ValueError for targets that are known to lie outside [0, V − 1]
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  options: { ignoreIndex?: number; reduction?: LossReduction } = {},
): Tensor {
  return rule(logits, targets, options.ignoreIndex ?? -100, options.reduction ?? "mean");
}
