import { ValueError } from "../../gpu/errors.ts";
import { gradNorm, scaleBy } from "../../kernels/clip_grad_norm.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { Optimizer } from "./optimizer.ts";

/**
 * Limits the norm of all gradients together: g · min(1, maxNorm/(norm + 1e-6)). Nothing is read back.
 * Of an optimiser's gradients the next `step()` applies the factor, with no pass of its own; `p.grad`
 * itself stays. Gradients of a list of parameters are scaled in place, as in PyTorch.
 * @param maxNorm  above 0; Infinity only measures
 * @returns the norm before clipping, a scalar
 * Source: Pascanu et al. 2013, arXiv 1211.5063.
 */
export function clipGradNorm(target: Optimizer | readonly Tensor[], maxNorm: number): Tensor {
  const op = "clip_grad_norm";
  if (!(maxNorm > 0)) {
    throw new ValueError({ op, arg: "maxNorm", expected: "above 0", got: `${maxNorm}` });
  }
  using inner = scope();
  if (target instanceof Optimizer) {
    const { gradients, factor } = target.clipping(op);
    return inner.keep(gradNorm(gradients, maxNorm, factor).norm);
  }
  const gradients = [...new Set(target)].flatMap((p) => p.grad ?? []);
  const { norm, factor } = gradNorm(gradients, maxNorm);
  for (const g of gradients) scaleBy(g, factor);
  return inner.keep(norm);
}
