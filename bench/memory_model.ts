// What the memory of a training step should be, by formula: state, and what backward needs of forward.
// Rows are tokens, B·T of them. d: width, f: width inside the MLP, H: heads, r: rank; numbers of 4 bytes.
import { addLora, type LoraConfig } from "../src/lora/index.ts";
import type { CausalLM } from "../src/nn/causal_lm.ts";
import { GPT2LMHeadModel } from "../src/nn/gpt2.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import { AdamW } from "../src/nn/optim/index.ts";

export interface MemorySizes {
  layers: number;
  width: number;
  heads: number;
  context: number;
  batch: number;
  vocabulary: number;
  r: number;
}

/** The sizes at which the project states its figures. */
export const STATED: MemorySizes = {
  layers: 4,
  width: 256,
  heads: 4,
  context: 128,
  batch: 8,
  vocabulary: 512,
  r: 8,
};

export type Family = "gpt2" | "llama";
export type Method = "lora" | "full";

/** Width inside the MLP: 4d of GPT-2, two thirds of it where there is a gate, in steps of 16. */
function innerWidth(family: Family, d: number): number {
  return family === "gpt2" ? 4 * d : Math.round((8 * d) / 3 / 16) * 16;
}

/** A model with an AdamW optimiser of what the method trains. */
export function trainingSetup(family: Family, method: Method, s: MemorySizes) {
  const model: CausalLM =
    family === "gpt2"
      ? new GPT2LMHeadModel({
          vocab_size: s.vocabulary,
          n_positions: s.context,
          n_embd: s.width,
          n_layer: s.layers,
          n_head: s.heads,
        })
      : new LlamaForCausalLM({
          vocab_size: s.vocabulary,
          hidden_size: s.width,
          intermediate_size: innerWidth("llama", s.width),
          num_hidden_layers: s.layers,
          num_attention_heads: s.heads,
          max_position_embeddings: s.context,
        });
  const config: LoraConfig = { r: s.r, target_modules: "all-linear" };
  if (method === "lora") addLora(model, config);
  const optimizer = new AdamW(model.trainableParameters(), { lr: 1e-3 });
  return { model, optimizer };
}

/**
 * Bytes of a step by formula. State: 4P of frozen weights; 16p of trained ones, for the weight, its
 * gradient and two moments. Activations per token and block of GPT-2: 16d + H (inputs of both norms and of
 * the four linears, q, k, v, the inner width before and after GELU, one log-sum-exp per head), of Llama:
 * 8d + 3f + H; with adapters the r numbers of S for each of four or seven linears. With gradient checkpointing all
 * that is there for one block at a time, beside the two summands of each block's input, 2d.
 */
export function formulaBytes(model: CausalLM, family: Family, method: Method, s: MemorySizes) {
  const count = (list: readonly { size: number }[]) => list.reduce((n, p) => n + p.size, 0);
  const trained = count(model.trainableParameters());
  const frozen = count(model.parameters()) - trained;
  const { width: d, heads: H } = s;
  const wide = family === "gpt2" ? 16 * d : 8 * d + 3 * innerWidth(family, d);
  const ranks = method === "lora" ? (family === "gpt2" ? 4 : 7) * s.r : 0;
  const state = 4 * frozen + 16 * trained;
  const block = wide + H + ranks;
  const perToken = model.gradientCheckpointing ? 2 * d * s.layers + block : block * s.layers;
  const activations = 4 * s.batch * s.context * perToken;
  return { state, activations, total: state + activations };
}
