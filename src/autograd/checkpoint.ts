// checkpoint(): activation checkpointing, one more forward pass in the place of what backward needs of the first.
import { checkTensor } from "../kernels/check.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { walk } from "./backward.ts";
import {
  edgeTo,
  gradEnabled,
  gradLater,
  Node,
  noGrad,
  Result,
  type Upstream,
  withGrad,
} from "./graph.ts";
import { noteAll } from "./surroundings.ts";

/**
 * Runs `fn` without keeping what its ops would save, and runs it again in backward. Kept are its inputs alone.
 * Gradients are those of `fn` by itself, bit for bit: random numbers are drawn again alike, and what `noting`
 * was told of is as it was. What else `fn` depends on, parameters and modes, must not change until backward.
 * @param fn  maps the inputs to a tensor, or to a list of them; may use parameters. Any other tensor that it uses
 *   must be an input, or live until backward
 * @see Chen et al. 2016, arXiv 1604.06174
 */
export function checkpoint<
  A extends readonly (Tensor | null)[],
  Y extends Tensor | readonly Tensor[],
>(fn: (...args: A) => Y, ...inputs: A): Y {
  for (const [i, x] of inputs.entries()) if (x) checkTensor("checkpoint", `input ${i + 1}`, x);
  if (!gradEnabled()) return fn(...inputs);
  const asNow = noteAll();
  using outer = scope();
  const made = gradLater(() => fn(...inputs));
  const list = listOf(made).map((y) => (inputs.includes(y) ? y.view(y.shape) : y));
  const edges = inputs.map((x) => x && edgeTo(x));
  const node: Node = new Node("checkpoint", list.length, edges, (dys) =>
    noGrad(() => asNow(() => pull(fn, saved, needs, dys))),
  );
  const saved = inputs.map((x) => x && node.save(x));
  const needs = inputs.map((x) => x?.requiresGrad ?? false);
  for (const [i, y] of list.entries()) outer.keep(y).node = new Result(node, i);
  return (Array.isArray(made) ? list : list[0]) as Y;
}

const listOf = (made: Tensor | readonly Tensor[]) =>
  (Array.isArray(made) ? made : [made]) as readonly Tensor[];

/** Gradients of the inputs, by a second run. It leaves a graph from its results to a node that takes what arrives. */
function pull<A extends readonly (Tensor | null)[]>(
  fn: (...args: A) => Tensor | readonly Tensor[],
  saved: readonly (Tensor | null)[],
  needs: readonly boolean[],
  dys: Upstream,
): Upstream {
  let arrived: Upstream = [];
  const source = new Node("checkpoint", saved.length, [], (found) => {
    arrived = found.map((g) => g?.handle() ?? null);
    return [];
  });
  const inputs = saved.map((x, i) => {
    const input = x?.view(x.shape) ?? null;
    if (input && needs[i]) input.node = new Result(source, i);
    return input;
  });
  const results = listOf(withGrad(true, () => fn(...(inputs as unknown as A))));
  const sink = new Node("checkpoint", results.length, results.map(edgeTo), (found) => found);
  sink.retain();
  for (const y of results) y.dispose();
  walk(sink, dys, false);
  sink.release();
  return arrived;
}
