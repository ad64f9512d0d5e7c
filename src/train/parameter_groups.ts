// Parameters as groups, as optimisers take them.
import { decayGroups, type ParameterGroup } from "../nn/optim/index.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Groups as they are; of a plain list two, of which only matrices decay. */
export function groupsOf(
  params: readonly Tensor[] | readonly ParameterGroup[],
  weightDecay: number,
): readonly ParameterGroup[] {
  const list = params as readonly (Tensor | ParameterGroup)[];
  const isList = list.every((p) => p instanceof Tensor);
  return isList ? decayGroups(list as Tensor[], weightDecay) : (list as ParameterGroup[]);
}
