// What the demo's scripts share: the base's shape, and the settings of both arms.
import { join } from "node:path";
import type { LlamaConfig } from "../../src/nn/llama_config.ts";
import { BYTE_VOCABULARY } from "../../src/train/text/bytes.ts";

export const BASE_FOLDER = join(import.meta.dirname, "base");

/** A small Llama over bytes. */
export const baseConfig: LlamaConfig = {
  vocab_size: BYTE_VOCABULARY,
  hidden_size: 128,
  intermediate_size: 352,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
};

/** Both arms see the same windows in the same order. Learning rates: see tuning.json. */
export const arms = {
  steps: 80,
  batch: 8,
  length: 64,
  warmup: 5,
  seed: 7,
  lora: { target_modules: "all-linear", r: 8, lora_alpha: 16, lora_dropout: 0 },
  lr: { lora: 1e-2, full: 3.16e-3 },
};
