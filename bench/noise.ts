// Large random arrays without the wait: one stretch is drawn, then repeated.
import { broadcastTo, reshape } from "../src/autograd/ops/index.ts";
import { randn } from "../src/tensor/create.ts";
import { scoped } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import type { Tensor } from "../src/tensor/tensor.ts";

const STRETCH = 2 ** 14;

/** Standard normal numbers that repeat after 16,384. `shape` must hold a multiple of them. */
export function noise(shape: Shape): Tensor {
  const times = sizeOf(shape) / STRETCH;
  return scoped(() => reshape(broadcastTo(randn([STRETCH]), [times, STRETCH]), shape));
}
