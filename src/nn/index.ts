// Modules, models, optimisers, generation: `import { Linear, AdamW } from "lowrank/nn"`.
export { Attention, type AttentionContext, type AttentionOptions } from "./attention.ts";
export { CausalLM, type LMSizes, type RowLayout } from "./causal_lm.ts";
export {
  type GenerateOptions,
  generate,
  generateBatch,
  generateBatchStream,
  generateStream,
} from "./generate.ts";
export { generationOptions } from "./generation_config.ts";
export { GPT2LMHeadModel } from "./gpt2.ts";
export type { GPT2Config } from "./gpt2_config.ts";
export {
  constantInit,
  kaimingUniformInit,
  normalInit,
  uniformInit,
  withEmptyWeights,
} from "./init.ts";
export { KVCache } from "./kv_cache.ts";
export { Conv1D, Dropout, Embedding, LayerNorm, Linear, RMSNorm } from "./layers.ts";
export { LlamaForCausalLM } from "./llama.ts";
export type { LlamaConfig, LlamaFamily } from "./llama_config.ts";
export { type Activation, GatedMLP, MLP } from "./mlp.ts";
export { type AnyModule, Module } from "./module.ts";
export * from "./optim/index.ts";
export {
  fromPretrained,
  type LoadOptions,
  type LoadProgress,
  modelFromConfig,
  savePretrained,
  toFloat32,
} from "./pretrained.ts";
export { processLogits, type Sampling } from "./sampling.ts";
