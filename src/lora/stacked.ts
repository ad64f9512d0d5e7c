// Several updates of one layer as a single one: what a merge adds in one pass, rounding once.
import { concat, mul, reshape } from "../autograd/ops/index.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { gainOf } from "./dora.ts";
import type { LoraWeights } from "./lora_weights.ts";

/** W' = gain∘W + scale·B·A. */
export interface Stacked {
  A: Tensor;
  B: Tensor;
  scale: number;
  /** [out]; absent: 1. */
  gain: Tensor | null;
}

/**
 * The A's above each other and the B's side by side, scaled. An update counts once for every gain g of
 * DoRA's that comes with it or after it: ((W + s₁B₁A₁)·g₂ + …) is W·g₂ + (g₂·s₁·B₁)·A₁ + ….
 */
export function stacked(
  updates: readonly LoraWeights[],
  { weight, transposed }: { weight: Tensor; transposed: boolean },
): Stacked {
  const [first] = updates as [LoraWeights];
  if (updates.length === 1 && !first.lora_magnitude_vector) {
    return { A: first.lora_A, B: first.lora_B, scale: first.scaling, gain: null };
  }
  let gain: Tensor | null = null;
  const Bs: Tensor[] = [];
  for (const update of [...updates].reverse()) {
    if (update.lora_magnitude_vector) {
      const own = gainOf(update, weight, transposed);
      gain = gain ? mul(gain, own) : own;
    }
    const B = mul(update.lora_B, update.scaling);
    Bs.unshift(gain ? mul(B, reshape(gain, [gain.size, 1])) : B);
  }
  const A = concat(
    updates.map((u) => u.lora_A),
    0,
  );
  return { A, B: concat(Bs, 1), scale: 1, gain };
}
