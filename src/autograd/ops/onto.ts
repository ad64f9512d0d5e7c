// Gradients that products add to what is there, instead of making them and having them added.
import { rowsOf } from "../../kernels/axes.ts";
import type { MatmulOptions } from "../../kernels/matmul.ts";
import type { Shape } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** Where a product is to be added, if anywhere. */
export type Into = Pick<MatmulOptions, "into">;

/**
 * A gradient: added to `total` where there is one, else made.
 * @param make  a product as rows of its last axis, written into `into` where given
 */
export function onto(total: Tensor | null, shape: Shape, make: (options: Into) => Tensor): Tensor {
  if (!total) return make({}).view(shape);
  make({ into: rowsOf(total) });
  return total;
}
