import { checkTensor } from "../../kernels/check.ts";
import {
  gatherAxis,
  gatherAxisBackward,
  gatherRows,
  gatherRowsBackward,
} from "../../kernels/gather.ts";
import { normalizeAxis } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const gatherOp = op("gather", {
  forward: (x: Tensor, axis: number, ids: Tensor) => [
    gatherAxis(x, axis, ids),
    { ids, axis, shape: x.shape },
  ],
  backward: (dy, { ids, axis, shape }) => [gatherAxisBackward(dy, axis, ids, shape)],
});

/**
 * One element per position along an axis, as torch.gather: y[i, k] = x[i, ids[i, k]] for axis 1.
 * @param x  [..., A, ...], f32, i32 or u32
 * @param axis  the axis that ids index
 * @param ids  [..., k, ...], i32 or u32, of x's sizes on all other axes
 * @throws ValueError for ids that are known to lie outside the axis
 */
export function gather(x: Tensor, axis: number, ids: Tensor): Tensor {
  checkTensor("gather", "x", x);
  return gatherOp(x, normalizeAxis("gather", axis, x.rank), ids);
}

/**
 * Rows of x by index: y[..., :] = x[ids[...], :].
 * @param x  [V, ...]; f16 and bf16 are read as f32
 * @param ids  any shape, i32 or u32
 * @throws ValueError for ids that are known to lie outside [0, V − 1]
 */
export const indexSelect = op("index_select", {
  forward: (x: Tensor, ids: Tensor) => [
    gatherRows(x, ids, "index_select", "x"),
    { ids, shape: x.shape },
  ],
  backward: (dy, { ids, shape }) => [gatherRowsBackward(dy, ids, shape)],
});
