// What the demo's scripts share: the base's shape and training, and the settings of both arms.
import { join } from "node:path";
import type { LlamaConfig } from "../../src/nn/llama_config.ts";
import { BYTE_VOCABULARY } from "../../src/train/text/bytes.ts";

export const BASE_FOLDER = join(import.meta.dirname, "base");
export const TUNING_FILE = join(import.meta.dirname, "tuning.json");

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

/** How the committed base was trained; base/training.json records it. */
export const baseTraining = {
  steps: 4800,
  batch: 8,
  lr: 3e-3,
  length: 96,
  warmup: 100,
  weightDecay: 0.01,
  seed: 1,
};

/** Both arms see the same windows in the same order. Their learning rates are the best of tuning.json. */
export const arms = {
  steps: 60,
  batch: 8,
  length: 64,
  warmup: 5,
  seed: 7,
  lora: { target_modules: "all-linear", r: 8, lora_alpha: 16, lora_dropout: 0 },
};

/** Windows of each held-out text of which the loss is the mean, in tuning and in the report. */
export const HELD_WINDOWS = 48;
