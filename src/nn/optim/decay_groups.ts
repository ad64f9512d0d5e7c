// Which parameters weight decay acts on.
import type { Tensor } from "../../tensor/tensor.ts";
import type { ParameterGroup } from "./optimizer.ts";

/**
 * Groups in which decay pulls on matrices and on nothing else: norms, biases and other vectors scale or
 * shift what matrices make, and would lose their meaning at 0.
 * @param params  each in the group of its number of axes: 2 and more decay, 0 and 1 do not
 * @param weightDecay  of the matrices; with 0 there is one group
 */
export function decayGroups(params: readonly Tensor[], weightDecay: number): ParameterGroup[] {
  if (weightDecay === 0) return [{ params, weightDecay }];
  const matrices = params.filter((p) => p.rank >= 2);
  const vectors = params.filter((p) => p.rank < 2);
  const groups = [
    { params: matrices, weightDecay },
    { params: vectors, weightDecay: 0 },
  ];
  return groups.filter((group) => group.params.length > 0);
}
