// backward(): walks the graph from a result to its leaves and sums the gradients.
import { type Gpu, gpu } from "../gpu/device.ts";
import { GradError } from "../gpu/errors.ts";
import { accumulate } from "../kernels/accumulate.ts";
import { checkDType, checkShapeIs, checkTensor } from "../kernels/check.ts";
import { ones } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Edge, type Node, noGrad, Result, type Upstream } from "./graph.ts";

export interface BackwardOptions {
  /** Gradient of the result, of its shape. Default: 1, for a result of one element. */
  gradient?: Tensor;
  /** Keep residuals, so that backward() can run again. */
  retainGraph?: boolean;
}

/**
 * Adds the gradient of `y` with respect to every leaf to the leaf's `grad`.
 * @throws GradError where y has no graph, is not a scalar, its graph was freed, or what an op saved was
 *   written since; no gradient has changed then
 */
export function backward(y: Tensor, options: BackwardOptions = {}): void {
  checkTensor("backward", "the tensor", y);
  const { gradient, retainGraph = false } = options;
  if (!y.requiresGrad) {
    throw new GradError({
      op: "backward",
      arg: "the tensor",
      expected: "the result of ops on tensors that require gradients",
      got: "one without a graph",
      hint: "Mark leaves with `parameter(x)`, and do not compute the loss under noGrad.",
    });
  }
  if (!gradient && y.size !== 1) {
    throw new GradError({
      op: "backward",
      arg: "the tensor",
      expected: "a scalar",
      got: format(y.shape),
      hint: "Reduce it (`y.sum()`), or pass `{ gradient }`.",
    });
  }
  if (gradient) {
    checkDType("backward", "gradient", gradient, "f32");
    checkShapeIs("backward", "gradient", gradient, y.shape);
  }
  noGrad(() => {
    using _ = scope();
    const dy = (gradient ?? one()).view(y.shape);
    if (y.node) {
      const { node, index } = y.node as Result;
      const upstream = new Array<Tensor | null>(node.results).fill(null);
      upstream[index] = dy;
      walk(node, upstream, retainGraph);
    } else addToLeaf(y, dy);
  });
}

const seeds = new WeakMap<Gpu, Tensor>();

/** A 1, uploaded once: the gradient of a result with respect to itself. */
function one(): Tensor {
  const device = gpu("backward");
  const known = seeds.get(device);
  if (known) return known;
  const made = ones([1]).persist();
  seeds.set(device, made);
  return made;
}

/**
 * Walks the graph from a node to its leaves.
 * @param dys  gradients of the node's results, which are freed on the way
 */
export function walk(root: Node, dys: Upstream, retainGraph: boolean): void {
  const gradients = new Map<Node, (Tensor | null)[]>([[root, [...dys]]]);
  const nodes = order(root);
  for (const node of nodes) node.check(); // all of them, before any gradient is written
  for (const node of nodes) {
    const upstream = gradients.get(node);
    if (!upstream) continue;
    gradients.delete(node);
    using inner = scope();
    const given = new Set(upstream.filter((g) => g !== null));
    const totals = node.edges.map((edge) => totalOf(gradients, edge));
    node.pull(upstream, !retainGraph, totals).forEach((g, i) => {
      const edge = node.edges[i];
      if (!g || !edge || g === totals[i]) return;
      // A rule may hand on dy itself, or one tensor for two inputs: each edge owns a handle.
      const own = given.has(g) ? g.view(g.shape) : g;
      given.add(own);
      if (!own.scope) inner.add(own); // a residual that the rule hands on
      if (edge instanceof Result) {
        const dys = upstreamOf(gradients, edge.node);
        const before = dys[edge.index];
        dys[edge.index] = inner.keep(before ? add(before, own) : own);
      } else {
        addToLeaf(edge, own);
      }
    });
    for (const g of upstream) g?.dispose();
    if (!retainGraph) node.freeResiduals(given);
  }
}

/** The gradient that an input has so far, if it can be added to in place. */
function totalOf(gradients: Map<Node, (Tensor | null)[]>, edge: Edge): Tensor | null {
  if (!edge) return null;
  const total = edge instanceof Result ? gradients.get(edge.node)?.[edge.index] : edge.grad;
  return total && !total.storage.shared ? total : null;
}

/** The gradients that a node's results have so far. */
function upstreamOf(gradients: Map<Node, (Tensor | null)[]>, node: Node): (Tensor | null)[] {
  let dys = gradients.get(node);
  if (!dys) {
    dys = new Array(node.results).fill(null);
    gradients.set(node, dys);
  }
  return dys;
}

/** before + g, in place unless another tensor holds the same memory. */
function add(before: Tensor, g: Tensor): Tensor {
  const total = before.storage.shared ? before.clone() : before;
  accumulate(total, g);
  return total;
}

function addToLeaf(leaf: Tensor, g: Tensor): void {
  if (leaf.grad) accumulate(leaf.grad, g);
  else {
    leaf.grad = (g.storage.shared ? g.clone() : g).persist();
    leaf.grad.storage.category = "gradients";
  }
}

/** Nodes reachable from the root, each before the nodes that it feeds gradients to. */
function order(root: Node): Node[] {
  const sorted: Node[] = [];
  const seen = new Set<Node>([root]);
  const stack: { node: Node; next: number }[] = [{ node: root, next: 0 }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const edge = top.node.edges[top.next++];
    if (edge instanceof Result) {
      if (!seen.has(edge.node)) {
        seen.add(edge.node);
        stack.push({ node: edge.node, next: 0 });
      }
    } else if (edge === undefined) {
      sorted.push(top.node);
      stack.pop();
    }
  }
  return sorted.reverse();
}
