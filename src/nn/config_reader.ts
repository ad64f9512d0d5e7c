// ConfigReader: the fields of a config.json, each checked as it is read. What is wrong is told at the
// end and all at once: fields out of range, contradictions, and fields that nobody read.
import { FormatError } from "../gpu/errors.ts";

/**
 * Fields that say nothing about what a model computes in evaluation: where it came from, which tokens
 * are special, how to sample, and leftovers of other tasks.
 */
const NEUTRAL = new Set(
  `_name_or_path name_or_path _attn_implementation_autoset architectures model_type auto_map
  transformers_version transformers.js_config torch_dtype dtype use_cache cache_implementation
  initializer_range attention_dropout attn_pdrop pretraining_tp keys_to_ignore_at_inference
  unsloth_version unsloth_fixed is_llama_config is_decoder tokenizer_class prefix
  bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id
  output_attentions output_hidden_states output_scores return_dict return_dict_in_generate
  use_return_dict torchscript use_bfloat16 tf_legacy_loss chunk_size_feed_forward
  id2label label2id num_labels problem_type finetuning_task task_specific_params classifier_dropout
  max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups
  diversity_penalty temperature top_k top_p min_p typical_p repetition_penalty length_penalty
  no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
  forced_bos_token_id forced_eos_token_id remove_invalid_values suppress_tokens begin_suppress_tokens
  exponential_decay_length_penalty`.split(/\s+/),
);

type Json = Readonly<Record<string, unknown>>;

export class ConfigReader {
  readonly problems: string[] = [];
  private readonly seen = new Set<string>();

  /** @param prefix  what stands before a field's name in messages, such as `rope_scaling.` */
  constructor(
    private readonly json: Json,
    private readonly prefix = "",
  ) {}

  /** Notes that the configuration cannot be used. */
  refuse(name: string, expected: string, got: unknown): void {
    const shown = got === undefined ? "nothing" : JSON.stringify(got);
    this.problems.push(`${this.prefix}${name} must be ${expected}, got ${shown}`);
  }

  /** The value as it stands; undefined where the field is absent. */
  raw(name: string): unknown {
    this.seen.add(name);
    return this.json[name];
  }

  /** A positive integer. Without `fallback` the field must be there. */
  count(name: string, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
    this.refuse(name, "a positive integer", value);
    return 1;
  }

  /** A positive integer, or null. `fallback` counts only where the field is absent. */
  countOrNull(name: string, fallback: number | null): number | null {
    const value = this.raw(name);
    return value === null || (value === undefined && fallback === null)
      ? null
      : this.count(name, fallback ?? undefined);
  }

  /** A finite number greater than 0. Without `fallback` the field must be there. */
  positive(name: string, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value === "number" && value > 0 && value < Infinity) return value;
    this.refuse(name, "a positive number", value);
    return 1;
  }

  /** A finite number greater than 0, or null. `fallback` counts only where the field is absent. */
  positiveOrNull(name: string, fallback: number | null): number | null {
    const value = this.raw(name);
    return value === null || (value === undefined && fallback === null)
      ? null
      : this.positive(name, fallback ?? undefined);
  }

  /** A probability below 1. */
  probability(name: string, fallback: number): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value === "number" && value >= 0 && value < 1) return value;
    this.refuse(name, "in [0, 1)", value);
    return fallback;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    if (typeof value === "boolean") return value;
    this.refuse(name, "true or false", value);
    return fallback;
  }

  /** What a name means in `table`. */
  oneOf<T>(name: string, table: Readonly<Record<string, T>>, fallback: string): T {
    const value = this.raw(name) ?? fallback;
    if (typeof value === "string" && Object.hasOwn(table, value)) return table[value]!;
    this.refuse(name, `one of ${Object.keys(table).join(", ")}`, value);
    return table[fallback]!;
  }

  /** A list of `length` elements (longer ones are cut) that all pass `good`, or null where it is absent. */
  list<T>(
    name: string,
    length: number,
    expected: string,
    good: (v: unknown) => boolean,
  ): T[] | null {
    const value = this.raw(name) ?? null;
    if (value === null) return null;
    if (Array.isArray(value) && value.length >= length && value.every(good)) {
      return value.slice(0, length);
    }
    this.refuse(name, `a list of at least ${length}: ${expected}`, value);
    return null;
  }

  /** A reader of the object in a field, or null where the field is absent, null or empty. */
  object(name: string): ConfigReader | null {
    const value = this.raw(name) ?? null;
    if (value === null) return null;
    if (typeof value !== "object" || Array.isArray(value)) {
      this.refuse(name, "an object", value);
      return null;
    }
    return Object.keys(value).length > 0
      ? new ConfigReader(value as Json, `${this.prefix}${name}.`)
      : null;
  }

  /** Takes over the problems of a reader made by `object`, unread fields included. */
  absorb(inner: ConfigReader, ignored: ReadonlySet<string> = new Set()): void {
    inner.noteUnread(ignored);
    this.problems.push(...inner.problems);
  }

  /** A field that was not read must be neutral, or say no: null, false, 0, "", [] or {}. */
  private noteUnread(ignored: ReadonlySet<string>): void {
    for (const [name, value] of Object.entries(this.json)) {
      const path = this.prefix + name;
      const isOff = !value || (typeof value === "object" && Object.keys(value).length === 0);
      if (this.seen.has(name) || isOff || ignored.has(path)) continue;
      if (this.prefix === "" && (NEUTRAL.has(name) || name.startsWith("summary_"))) continue;
      this.problems.push(`${path} = ${shorten(JSON.stringify(value))} is not supported`);
    }
  }

  /**
   * @param from  where the configuration came from
   * @param ignored  fields that the caller knows to change nothing
   * @throws FormatError that lists every problem
   */
  finish(from: string, ignored: readonly string[] = []): void {
    this.noteUnread(new Set(ignored));
    if (this.problems.length === 0) return;
    throw new FormatError(
      `config: ${from} cannot be used: ${[...new Set(this.problems)].join("; ")}. Nothing was changed. ` +
        "A field that does not change what the model computes can be named in `ignoreConfig`.",
    );
  }
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
