// Functional gradients, and detach.

import { GradError } from "../gpu/errors.ts";
import { checkTensor } from "../kernels/check.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { backward } from "./backward.ts";
import { withGrad } from "./graph.ts";

/** The same values without a graph: gradients stop here. */
export function detach(x: Tensor): Tensor {
  checkTensor("detach", "x", x);
  return x.view(x.shape);
}

/**
 * A function that returns the value of `fn` and its gradients with respect to its arguments.
 * @param fn  maps f32 tensors to a scalar
 * @throws GradError where the result does not depend on an argument
 */
export function valueAndGrad<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
): (...args: A) => { value: Tensor; grads: { [K in keyof A]: Tensor } } {
  return (...args) => {
    using inner = scope();
    const leaves = args.map((x) => {
      const leaf = x.view(x.shape);
      leaf.requiresGrad = true;
      return leaf;
    });
    const value = withGrad(true, () => fn(...(leaves as unknown as A)));
    backward(value);
    const grads = leaves.map((leaf, i) => {
      if (leaf.grad) return leaf.grad;
      throw new GradError({
        op: "grad",
        arg: `argument ${i + 1}`,
        expected: "used by the function",
        got: "one that the result does not depend on",
      });
    });
    // A leaf's gradient belongs to no scope, but these are results and belong to the caller's.
    for (const g of grads) inner.keep(inner.add(g));
    return { value: inner.keep(detach(value)), grads: grads as never };
  };
}

/** The gradients alone: see `valueAndGrad`. */
export function grad<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
): (...args: A) => { [K in keyof A]: Tensor } {
  const both = valueAndGrad(fn);
  return (...args) => {
    const { value, grads } = both(...args);
    value.dispose();
    return grads;
  };
}
