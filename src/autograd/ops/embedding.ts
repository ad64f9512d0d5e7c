import { checkRank, checkTensor } from "../../kernels/check.ts";
import { gatherRows, gatherRowsBackward } from "../../kernels/gather.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";
import { checkFrozenTable } from "./frozen_table.ts";

const rule = op("embedding", {
  forward: (weight: Tensor, ids: Tensor) => [
    gatherRows(weight, ids, "embedding", "weight"),
    { ids, shape: weight.shape },
  ],
  backward: (dy, { ids, shape }) => [gatherRowsBackward(dy, ids, shape)],
});

/**
 * Looks rows up: y[..., :] = weight[ids[...], :].
 * @param weight  [V, D]; f32, or frozen f16 or bf16, which are read as f32
 * @param ids  [...], i32 or u32
 * @returns [..., D], f32
 * @throws ValueError for ids that are known to lie outside [0, V − 1]; ids that the GPU computed are clamped.
 *   LimitError for a weight that wants a gradient and that a binding does not hold
 *
 * The gradient of a row is the sum over its ids in their order: the same bits in every run.
 */
export function embedding(weight: Tensor, ids: Tensor): Tensor {
  checkTensor("embedding", "weight", weight);
  checkRank("embedding", "weight", weight, 2, "[V, D]");
  checkFrozenTable("embedding", weight);
  return rule(weight, ids);
}
