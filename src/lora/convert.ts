// An adapter that began with a part of the base, as a plain one of twice the rank for the whole base:
//   s·(B·A − B₀·A₀) = s·[B | −B₀]·[A; A₀]
import { noGrad } from "../autograd/graph.ts";
import { concat, neg } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CompleteLoraConfig } from "./config.ts";
import type { LoraWeights } from "./lora_weights.ts";

/** The config of the converted adapter: ranks doubled, scales as they were. */
export function convertedConfig(config: CompleteLoraConfig): CompleteLoraConfig {
  const { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern } = config;
  const patterns = [rank_pattern, alpha_pattern].some((p) => Object.keys(p).length > 0);
  if (use_rslora && patterns) {
    const expected = "empty, for with use_rslora single scales cannot be kept";
    throw new ValueError({ op: "convert", arg: "rank_pattern and alpha_pattern", expected });
  }
  const doubled = (table: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(table).map(([key, value]) => [key, 2 * value]));
  return {
    ...config,
    r: 2 * r,
    lora_alpha: lora_alpha * (use_rslora ? Math.SQRT2 : 2),
    rank_pattern: doubled(rank_pattern),
    alpha_pattern: doubled(alpha_pattern),
    init_lora_weights: true,
  };
}

/** [A; A₀] and [B | −B₀]. */
export function convertedPair(update: LoraWeights): { lora_A: Tensor; lora_B: Tensor } {
  const { start, lora_A, lora_B } = update;
  if (!start) {
    const facts = { expected: "one that began as PiSSA or OLoRA", got: "another" };
    throw new ValueError({ op: "convert", arg: "the adapter", ...facts });
  }
  return noGrad(() => ({
    lora_A: concat([lora_A, start.A], 0),
    lora_B: concat([lora_B, neg(start.B)], 1),
  }));
}
