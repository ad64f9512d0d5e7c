import { noGrad } from "../autograd/graph.ts";
import { cast } from "../autograd/ops/index.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A copy of the values as f32. */
export function toF32(t: Tensor): Tensor {
  return t.dtype === "f32" ? t.clone() : noGrad(() => cast(t, "f32"));
}
