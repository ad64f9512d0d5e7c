// Several adapters trained in one step over one frozen base: a sweep over ranks and rates in one run.
import { add, concat, slice, split } from "../autograd/ops/index.ts";
import { ShapeError, ValueError } from "../gpu/errors.ts";
import type { CausalLM, RowLayout } from "../nn/causal_lm.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { BASE, type Lora } from "./lora.ts";

export interface SideBySide {
  /** The sum of the losses, for backward(): each adapter gets the gradient of its own. */
  total: Tensor;
  /** Mean loss over the sequences of each adapter. */
  losses: Map<string, Tensor>;
}

/**
 * Loss of each adapter on its own sequences, with one pass of the base over all of them. Give each
 * adapter an optimiser of its own, `new AdamW(lora.parameters(name), { lr })`, and every step is the
 * one that it would take alone: rank, alpha, dropout, rate and clipping are its own. It is that to the bit
 * where an adapter's tokens begin at a multiple of 256 bytes of every activation, and are 32 or more.
 * May be captured.
 * @param ids  [sequences, tokens]
 * @param targets  [sequences, tokens], −100 where none counts
 * @param names  the adapter of each sequence
 * @param layout  packed texts, as for `model.loss`
 * @throws ShapeError, ValueError where the sizes differ or no sequence has an adapter
 */
export function sideBySideLoss(
  lora: Lora,
  model: CausalLM,
  ids: Tensor,
  targets: Tensor,
  names: readonly string[],
  { starts }: Pick<RowLayout, "starts"> = {},
): SideBySide {
  checkBatch(ids, targets, names);
  const order = [...new Set(names)];
  const rowsOf = new Map(order.map((name) => [name, rowsOfName(names, name)]));
  const all = order.flatMap((name) => rowsOf.get(name)!);
  const sorted = all.flatMap((row) => names[row]!);
  const layout = starts && { starts: inOrder(starts, all) };
  const tokens = () => model.hidden(inOrder(ids, all), undefined, layout); // [sequences, tokens, D]
  const hidden = lora.withAdapterNames(sorted, tokens);
  const losses = new Map<string, Tensor>();
  const parts = split(
    hidden,
    [...rowsOf.values()].map((rows) => rows.length),
  );
  for (const [i, [name, rows]] of [...rowsOf].entries()) {
    if (name === BASE) continue;
    const head = () => model.headLoss(parts[i]!, inOrder(targets, rows));
    losses.set(name, lora.withAdapterNames(Array(rows.length).fill(name), head));
  }
  return { total: [...losses.values()].reduce((a, b) => add(a, b)), losses };
}

function checkBatch(ids: Tensor, targets: Tensor, names: readonly string[]): void {
  const op = "sideBySideLoss";
  if (format(ids.shape) !== format(targets.shape)) {
    const expected = `of the shape of ids, ${format(ids.shape)}`;
    throw new ShapeError({ op, arg: "targets", expected, got: format(targets.shape) });
  }
  if (ids.shape[0] !== names.length) {
    const expected = `${ids.shape[0]} names, one for each sequence`;
    throw new ShapeError({ op, arg: "names", expected, got: `${names.length}` });
  }
  if (names.some((name) => name !== BASE)) return;
  throw new ValueError({ op, arg: "names", expected: "those of adapters", got: names.join(", ") });
}

function rowsOfName(names: readonly string[], name: string): number[] {
  return names.flatMap((n, row) => (n === name ? [row] : []));
}

/** Some rows of a tensor, in this order; the tensor itself where they are all of its rows as they are. */
function inOrder(t: Tensor, rows: readonly number[]): Tensor {
  const runs: [number, number][] = [];
  for (const row of rows) {
    const last = runs.at(-1);
    if (last?.[1] === row) last[1] += 1;
    else runs.push([row, row + 1]);
  }
  const parts = runs.map(([from, to]) => slice(t, 0, from, to));
  return parts.length === 1 ? parts[0]! : concat(parts, 0);
}
