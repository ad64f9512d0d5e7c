// Modules, models, optimisers, generation: `import { Linear, AdamW } from "lowrank/nn"`.
export { CausalLM, type LMSizes } from "./causal_lm.ts";
export { type GenerateOptions, generate, generateStream } from "./generate.ts";
export { type GPT2Config, GPT2LMHeadModel } from "./gpt2.ts";
export {
  constantInit,
  kaimingUniformInit,
  normalInit,
  uniformInit,
  withEmptyWeights,
} from "./init.ts";
export { KVCache } from "./kv_cache.ts";
export { Conv1D, Dropout, Embedding, LayerNorm, Linear, RMSNorm } from "./layers.ts";
export { type LlamaConfig, LlamaForCausalLM } from "./llama.ts";
export { type AnyModule, Module } from "./module.ts";
export * from "./optim/index.ts";
export { fromPretrained, modelFromConfig, savePretrained, toFloat32 } from "./pretrained.ts";
