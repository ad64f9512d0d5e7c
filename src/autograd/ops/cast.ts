import { GradError } from "../../gpu/errors.ts";
import { castTo } from "../../kernels/cast.ts";
import { checkTensor } from "../../kernels/check.ts";
import type { DType } from "../../tensor/dtype.ts";
import { scoped } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { gradEnabled } from "../graph.ts";
import { op } from "../op.ts";

const sameType = op("cast", {
  forward: (x: Tensor) => [x.view(x.shape), {}],
  backward: (dy) => [dy],
});

/**
 * The elements in another type. To f16 and bf16: to nearest, ties to even. To integers: towards zero.
 * Same type: shares memory. Gradients are f32, so an x that wants one cannot become f16 or bf16;
 * integers never carry one.
 * @throws DTypeError for an unknown type, GradError for a packed copy of what wants a gradient
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkTensor("cast", "x", x);
  if (dtype === x.dtype) return sameType(x);
  const packed = dtype === "f16" || dtype === "bf16";
  if (packed && x.requiresGrad && gradEnabled()) {
    throw new GradError({
      op: "cast",
      arg: "x",
      expected: `free of gradients to become ${dtype}`,
      got: "one that wants them",
      hint: "Use x.detach(), or noGrad.",
    });
  }
  return scoped(() => castTo(x, dtype));
}
