// generation_config.json: what a checkpoint says about how its text is to be made.
import { ValueError } from "../gpu/errors.ts";
import type { CausalLM } from "./causal_lm.ts";
import type { GenerateOptions } from "./generate.ts";

/** Fields that are read here. */
const READ = new Set(
  "do_sample temperature top_k top_p min_p repetition_penalty max_new_tokens max_length eos_token_id".split(
    " ",
  ),
);

/** Fields that change no token, with those that only count for beams. */
const NEUTRAL = new Set(
  `bos_token_id pad_token_id decoder_start_token_id transformers_version use_cache _from_model_config
  cache_implementation cache_config max_cache_len early_stopping length_penalty return_dict_in_generate
  output_scores output_logits output_attentions output_hidden_states renormalize_logits
  remove_invalid_values is_assistant num_assistant_tokens num_assistant_tokens_schedule
  assistant_confidence_threshold assistant_lookbehind target_lookbehind compile_config disable_compile
  low_memory trust_remote_code chat_format max_window_size`.split(/\s+/),
);

/** Values that switch a field off. */
const OFF: Readonly<Record<string, unknown>> = {
  num_beams: 1,
  num_beam_groups: 1,
  num_return_sequences: 1,
  typical_p: 1,
  encoder_repetition_penalty: 1,
};

/** The tokens that end a text, as the checkpoint names them. */
export function stopTokens(model: CausalLM): number[] {
  const { eos_token_id: eos } = model.generationConfig;
  return (Array.isArray(eos) ? eos : [eos]).filter((id) => Number.isSafeInteger(id)) as number[];
}

/**
 * The checkpoint's own settings as options of `generate`, with Transformers' defaults (50 for top-k):
 * `generate(model, prompt, { ...generationOptions(model), seed: 3 })`.
 * @throws ValueError listing the settings that are not supported
 */
export function generationOptions(model: CausalLM): GenerateOptions {
  const config = model.generationConfig;
  const unsupported = Object.entries(config).filter(
    ([name, value]) =>
      !READ.has(name) &&
      !NEUTRAL.has(name) &&
      value !== OFF[name] &&
      (typeof value === "object" ? Object.keys(value ?? {}).length > 0 : Boolean(value)),
  );
  if (unsupported.length > 0) {
    throw new ValueError({
      op: "generationOptions",
      arg: "generation_config.json",
      expected: "free of what is not supported",
      got: unsupported.map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join(", "),
    });
  }
  const number = (name: string, fallback: number) => {
    const value = config[name] ?? fallback;
    if (typeof value === "number") return value;
    const got = JSON.stringify(value);
    throw new ValueError({ op: "generationOptions", arg: name, expected: "a number", got });
  };
  const options: GenerateOptions = {
    stop: stopTokens(model),
    repetitionPenalty: number("repetition_penalty", 1),
  };
  if (config.max_new_tokens) options.maxNewTokens = number("max_new_tokens", 0);
  if (config.do_sample !== true) return options;
  const topK = number("top_k", 50);
  return {
    ...options,
    temperature: number("temperature", 1),
    topK: topK === 0 ? model.sizes.vocabSize : topK,
    topP: number("top_p", 1),
    minP: number("min_p", 0),
  };
}
