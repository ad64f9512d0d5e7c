// Names of what there is.
/** The architectures by `model_type`, as `config.json` names their classes. */
export const ARCHITECTURES: Readonly<Record<string, string>> = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
  smollm3: "SmolLM3ForCausalLM",
  gemma2: "Gemma2ForCausalLM",
  gpt2: "GPT2LMHeadModel",
};
