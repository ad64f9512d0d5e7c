// Gradients that products add to what is there, instead of making them and having them added.
import { rowsOf } from "../../kernels/axes.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/**
 * A gradient of x's shape: added to `total` where there is one, else made.
 * @param make  a product as rows of its last axis, written into `into` where given
 */
export function onto(
  total: Tensor | null,
  x: Tensor,
  make: (options: { into?: Tensor }) => Tensor,
): Tensor {
  if (!total) return make({}).view(x.shape);
  make({ into: rowsOf(total) });
  return total;
}
