// op(): makes a differentiable function of a forward and a backward rule.
import { ShapeError } from "../gpu/errors.ts";
import { scoped } from "../tensor/scope.ts";
import { format, sameShape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { edgeTo, gradEnabled, Node, noGrad, Result } from "./graph.ts";

type Grads = readonly (Tensor | readonly (Tensor | null)[] | null | undefined)[];

/** What an op makes: one tensor, or a list. */
export type Results = Tensor | readonly [Tensor, Tensor, ...Tensor[]] | readonly Tensor[];

/** The gradients of an op's results; of a list, those that nobody used have none. */
type GradOf<Y extends Results> = Y extends Tensor ? Tensor : { [K in keyof Y]: Tensor | null };

/** What the gradients of an argument will be added to, where there is something. */
type TotalOf<T> = T extends readonly Tensor[] ? readonly (Tensor | null)[] : Tensor | null;

export interface Rule<A extends unknown[], Y extends Results, R extends Record<string, unknown>> {
  /** Computes the results, and what backward needs. The results must be new tensors. */
  forward: (...args: A) => readonly [Y, R];
  /**
   * Gradients of the arguments, in their order, each of its argument's shape; null where none is.
   * `dy` is the gradient of the result; where it is a list, those of all of them.
   * `needs[i]` says whether argument i wants one: skip the work where it does not.
   * `last`: nobody needs the residuals after this call; they may be overwritten, and be the result.
   * `totals[i]`, where there is one, is what argument i's gradient will be added to: a rule may do that
   * itself, in place, and return it. Of a list, there is one for each member, or null.
   */
  backward: (
    dy: GradOf<Y>,
    residuals: R,
    needs: { [K in keyof A]-?: boolean },
    last: boolean,
    totals: { [K in keyof A]-?: TotalOf<A[K]> },
  ) => Grads;
}

/** The tensors of one argument: itself, the members of a list, or none. */
function tensorsOf(arg: unknown): readonly Tensor[] {
  if (arg instanceof Tensor) return [arg];
  return Array.isArray(arg) && arg[0] instanceof Tensor ? arg : [];
}

/**
 * Makes a differentiable op. Arguments may be tensors, lists of tensors, and anything else (which
 * gets no gradient). Temporaries of both rules are freed; what is saved lives until backward.
 * @param name  the op's name in messages and labels
 */
export function op<A extends unknown[], Y extends Results, R extends Record<string, unknown>>(
  name: string,
  rule: Rule<A, Y, R>,
): (...args: A) => Y {
  return (...args) => {
    const inputs = args.flatMap(tensorsOf);
    for (let i = 0; i < inputs.length; i++) inputs[i]!.checkAlive(name, `argument ${i + 1}`);
    return scoped(() => {
      const [made, residuals] = noGrad(() => rule.forward(...args));
      const own = (t: Tensor) => (inputs.includes(t) ? t.view(t.shape) : t);
      const results = tensorsOf(made).map(own);
      if (gradEnabled() && inputs.some((t) => t.requiresGrad)) {
        const count = made instanceof Tensor ? null : results.length;
        const node = recordNode(name, rule, count, args, residuals);
        for (const [i, y] of results.entries()) y.node = new Result(node, i);
      }
      return (made instanceof Tensor ? results[0] : results) as Y;
    });
  };
}

function recordNode<A extends unknown[], Y extends Results, R extends Record<string, unknown>>(
  name: string,
  rule: Rule<A, Y, R>,
  count: number | null,
  args: A,
  residuals: R,
): Node {
  const lists = args.map(tensorsOf);
  const shapes = lists.map((list) => list.map((t) => t.shape));
  const needs = lists.map((list) => list.some((t) => t.requiresGrad));
  const kept: Record<string, unknown> = {};
  const node = new Node(name, count ?? 1, lists.flat().map(edgeTo), (dys, last, sums) => {
    const dy = count === null ? dys[0] : dys;
    let at = 0;
    const totals = args.map((arg, i) => {
      const own = sums.slice(at, at + lists[i]!.length);
      at += own.length;
      return Array.isArray(arg) ? own : (own[0] ?? null);
    });
    const grads = rule.backward(dy as GradOf<Y>, kept as R, needs as never, last, totals as never);
    return shapes.flatMap((list, i) => spread(name, i, grads[i], list));
  });
  for (const [key, value] of Object.entries(residuals)) {
    kept[key] = value instanceof Tensor ? node.save(value) : saveList(node, value);
  }
  return node;
}

function saveList(node: Node, value: unknown): unknown {
  const isTensors = Array.isArray(value) && value[0] instanceof Tensor;
  return isTensors ? value.map((t: Tensor) => node.save(t)) : value;
}

/** One argument's gradients as a list, checked against the shapes of its tensors. */
function spread(
  name: string,
  index: number,
  grad: Grads[number],
  shapes: readonly (readonly number[])[],
): (Tensor | null)[] {
  const list = grad instanceof Tensor ? [grad] : (grad ?? []);
  return shapes.map((shape, i) => {
    const g = list[i] ?? null;
    if (!g || sameShape(g.shape, shape)) return g;
    throw new ShapeError({
      op: `${name} backward`,
      arg: `the gradient of argument ${index + 1}`,
      expected: format(shape),
      got: format(g.shape),
    });
  });
}
