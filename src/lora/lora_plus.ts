// LoRA+: B learns faster than A (Hayou, Ghosh & Yu 2024, arXiv 2402.12354).
import { ValueError } from "../gpu/errors.ts";
import type { ParameterGroup } from "../nn/optim/index.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Lora } from "./lora.ts";
import { peftStateDict } from "./peft.ts";

export interface LoraPlusOptions {
  /** Learning rate of A and of copies of matrices. */
  lr: number;
  /** How many times that B learns with; also magnitudes, biases and other vectors. At least 1. */
  loraplus_lr_ratio: number;
  /** Learning rate of A and B of embeddings. Default 1e-6. */
  loraplus_lr_embedding?: number;
  /** Of all but biases. Default 0. */
  loraplus_weight_decay?: number;
  /** Name of the adapter. Default: the first active one. */
  adapter?: string;
}

/**
 * The parameters of an adapter in PEFT's groups, for an optimiser:
 * `new AdamW(loraPlusGroups(lora, { lr: 1e-4, loraplus_lr_ratio: 16 }))`.
 * @throws ValueError for a ratio below 1
 */
export function loraPlusGroups(lora: Lora, options: LoraPlusOptions): ParameterGroup[] {
  const { lr, loraplus_lr_ratio: ratio, loraplus_lr_embedding = 1e-6 } = options;
  const { loraplus_weight_decay: weightDecay = 0, adapter } = options;
  if (!(ratio >= 1 && Number.isFinite(ratio))) {
    const facts = { arg: "loraplus_lr_ratio", expected: "at least 1", got: `${ratio}` };
    throw new ValueError({ op: "loraPlusGroups", ...facts });
  }
  const [A, embedding, B, undecayed]: Tensor[][] = [[], [], [], []];
  for (const [name, p] of Object.entries(peftStateDict(lora, adapter))) {
    if (name.includes(".lora_embedding_")) embedding!.push(p);
    else if (!name.includes(".lora_B.") && p.rank > 1) A!.push(p);
    else if (name.endsWith("bias")) undecayed!.push(p);
    else B!.push(p);
  }
  const groups: ParameterGroup[] = [
    { params: A!, lr, weightDecay },
    { params: embedding!, lr: loraplus_lr_embedding, weightDecay },
    { params: B!, lr: lr * ratio, weightDecay },
    { params: undecayed!, lr: lr * ratio, weightDecay: 0 },
  ];
  return groups.filter(({ params }) => params.length > 0);
}
