// Functional gradients, detach, and activation checkpointing.

import { GradError } from "../gpu/errors.ts";
import { checkTensor } from "../kernels/check.ts";
import { randomState, setRandomState } from "../tensor/philox.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { backward } from "./backward.ts";
import { edgeTo, gradEnabled, Node, noGrad, Result, withGrad } from "./graph.ts";

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

/**
 * Runs `fn` without keeping what its ops would save, and runs it again in backward.
 * Trades one more forward pass for its memory (Chen et al. 2016, arXiv 1604.06174). Random numbers
 * are drawn again alike, so dropout drops the same elements.
 * @param fn  maps the inputs to one tensor; may use parameters
 */
export function checkpoint<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
  ...inputs: A
): Tensor {
  for (const [i, x] of inputs.entries()) checkTensor("checkpoint", `input ${i + 1}`, x);
  if (!gradEnabled()) return fn(...inputs);
  const random = randomState();
  using outer = scope();
  const made = noGrad(() => fn(...inputs));
  const y = inputs.includes(made) ? made.view(made.shape) : made;
  const node: Node = new Node("checkpoint", 1, inputs.map(edgeTo), ([dy]) => recompute(dy!));
  const saved = inputs.map((x) => node.save(x));
  const needs = inputs.map((x) => x.requiresGrad);
  y.node = new Result(node, 0);
  return outer.keep(y);

  function recompute(dy: Tensor): (Tensor | null)[] {
    const now = randomState();
    setRandomState(random);
    try {
      const leaves = saved.map((x, i) => {
        const leaf = x.view(x.shape);
        leaf.requiresGrad = needs[i]!;
        return leaf;
      });
      const again = withGrad(true, () => fn(...(leaves as unknown as A)));
      if (again.requiresGrad) backward(again, { gradient: dy });
      return leaves.map((leaf) => leaf.grad);
    } finally {
      setRandomState(now);
    }
  }
}
