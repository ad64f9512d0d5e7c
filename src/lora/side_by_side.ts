// Several adapters trained in one step over one frozen base: a sweep over ranks and rates in one run.
import { add, concat, crossEntropy, reshape, slice } from "../autograd/ops/index.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
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
 * one that it would take alone: rank, alpha, dropout, rate and clipping are its own.
 * @param ids  [sequences, tokens]
 * @param targets  [sequences, tokens], −100 where none counts
 * @param names  the adapter of each sequence
 */
export function sideBySideLoss(
  lora: Lora,
  model: CausalLM,
  ids: Tensor,
  targets: Tensor,
  names: readonly string[],
): SideBySide {
  const logits = lora.withAdapterNames(names, () => model.call(ids)); // [sequences, tokens, V]
  const [, T, V] = logits.shape as [number, number, number];
  const losses = new Map<string, Tensor>();
  for (const name of new Set(names)) {
    const own = names.flatMap((n, i) => (n === name ? [i] : []));
    const rowsOf = (t: Tensor) =>
      concat(
        own.map((i) => slice(t, 0, i, i + 1)),
        0,
      );
    const n = own.length * T;
    const [part, wanted] = [reshape(rowsOf(logits), [n, V]), reshape(rowsOf(targets), [n])];
    if (name !== BASE) losses.set(name, crossEntropy(part, wanted));
  }
  return { total: [...losses.values()].reduce((a, b) => add(a, b)), losses };
}
