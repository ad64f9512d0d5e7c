// Methods: what is put into the model, and what of it an optimiser trains.
import type { Lora } from "../../lora/lora.ts";
import { addDecomposedLora, addLora } from "../../lora/lora.ts";
import { LoraFA } from "../../lora/lora_fa.ts";
import { loraPlusGroups } from "../../lora/lora_plus.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import type { AdamW } from "../../nn/optim/index.ts";
import { toFloat32 } from "../../nn/pretrained.ts";
import { manualSeed } from "../../tensor/philox.ts";
import type { FitOptions } from "../fit_options.ts";
import { loraConfigOf } from "./resolve.ts";
import type { FullConfig, Method } from "./schema.ts";

/** A model made ready to be trained. */
export interface Prepared {
  /** Null where the model itself is trained. */
  lora: Lora | null;
  /** What `fit` is to move at a learning rate, of which groups may take a multiple. Made anew by each call. */
  movedAt: (lr: number) => Promise<Pick<FitOptions, "parameters" | "optimizer">>;
  /** What is trained; LoRA-FA freezes a part when it is asked what to move. */
  count: () => { trainable: number; total: number; share: number };
}

/** Learning rate where none is given: about ten times higher with adapters (Schulman et al. 2025, LoRA Without Regret). */
export function usualRate(method: Method): number {
  return method === "full" ? 2e-5 : 2e-4;
}

/** Whether a method leaves the base's weights as they are, so that runs can share them. */
export function sharesBase(method: Method): boolean {
  return !["full", "pissa", "olora"].includes(method);
}

/** Puts what the method trains into a model, and sets how its activations are kept. */
export async function prepare(model: CausalLM, config: FullConfig): Promise<Prepared> {
  const { method, seed, training } = config;
  model.gradientCheckpointing = training.gradient_checkpointing;
  manualSeed(seed);
  if (method === "full") return prepareFull(model);
  const make = sharesBase(method) ? addLora : addDecomposedLora;
  const lora = await make(model, loraConfigOf(config));
  const movedAt = (lr: number) => movedBy(lora, method, lr, training);
  return { lora, movedAt, count: () => lora.count() };
}

async function movedBy(
  lora: Lora,
  method: Method,
  lr: number,
  { loraplus_lr_ratio = 16, weight_decay: weightDecay }: FullConfig["training"],
): ReturnType<Prepared["movedAt"]> {
  if (method === "lora+") {
    const options = { lr, loraplus_lr_ratio, loraplus_weight_decay: weightDecay };
    return { parameters: loraPlusGroups(lora, options) };
  }
  if (method !== "lora-fa") return {};
  const optimizer: AdamW = await LoraFA.create(lora, { lr, weightDecay });
  return { optimizer };
}

function prepareFull(model: CausalLM): Prepared {
  toFloat32(model);
  model.requiresGrad(true);
  const total = model.parameters().reduce((sum, p) => sum + p.size, 0);
  return {
    lora: null,
    movedAt: async () => ({}),
    count: () => ({ trainable: total, total, share: 1 }),
  };
}
