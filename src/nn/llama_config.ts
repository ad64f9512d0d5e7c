// What the Llama-style families have in common and where they differ: from the fields of a config.json to
// a DecoderSpec, by the rules and defaults of Hugging Face Transformers 5.

import { ConfigReader } from "./config_reader.ts";
import type { Activation } from "./mlp.ts";
import { checkQuantization } from "./quantization_config.ts";
import { type RopeScaling, readRope } from "./rope_scaling.ts";

/** The families that `LlamaForCausalLM` knows, by `model_type`. SmolLM and SmolLM2 are `llama`. */
export type LlamaFamily = "llama" | "mistral" | "qwen2" | "qwen3" | "smollm3" | "gemma2";

/** The fields of `config.json`, by their names there. Families add fields of their own. */
export interface LlamaConfig {
  /** Default `llama`. */
  model_type?: LlamaFamily;
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads?: number | null;
  head_dim?: number | null;
  hidden_act?: string;
  rms_norm_eps?: number;
  rope_theta?: number;
  /** Type and numbers of the rotary positions; `rope_scaling` in older files. */
  rope_parameters?: { rope_type?: string; rope_theta?: number; [field: string]: unknown } | null;
  max_position_embeddings: number;
  tie_word_embeddings?: boolean;
  attention_bias?: boolean;
  mlp_bias?: boolean;
  initializer_range?: number;
  [field: string]: unknown;
}

/** What a decoder computes, complete and checked. */
export interface DecoderSpec {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Most positions. */
  maxLength: number;
  normEps: number;
  /** Deviation of fresh weights. */
  std: number;
  /** The head's weights are those of the embedding. */
  tied: boolean;
  activation: Activation;
  bias: { qkv: boolean; o: boolean; mlp: boolean };
  /** Queries and keys are normalised head by head. */
  qkNorm: boolean;
  /** Norms multiply by their weight plus this. */
  normOffset: number;
  /** Norms stand behind attention and MLP too. */
  sandwich: boolean;
  embeddingScale: number;
  /** Factor of attention scores. */
  scale: number;
  /** Scores s become cap · tanh(s/cap). */
  scoreCap: number | null;
  /** The same for logits. */
  logitCap: number | null;
  /** How many keys a query of each layer sees, itself included; null for all before it. */
  windows: readonly (number | null)[];
  /** Whether each layer rotates queries and keys. */
  rotates: readonly boolean[];
  rope: RopeScaling;
}

/** What a family has of its own; defaults are what Transformers takes where a file lacks the field. */
interface Own extends Partial<DecoderSpec> {
  defaultKvHeads?: number;
  defaultHeadDim?: number;
  defaultTheta?: number;
  defaultTied?: boolean;
  activationField?: string;
}

/** Activations by the names that configurations use. */
export const ACTIVATIONS: Record<string, Activation> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  relu: "relu",
};

const FAMILIES: Record<LlamaFamily, (r: ConfigReader, layers: number) => Own> = {
  llama: (r) => ({ bias: ownBias(r) }),
  mistral(r, layers) {
    const window = r.countOrNull("sliding_window", 4096);
    return { defaultKvHeads: 8, windows: Array(layers).fill(window) };
  },
  qwen2: (r, layers) => ({
    defaultKvHeads: 32,
    bias: { qkv: true, o: false, mlp: false },
    windows: qwenWindows(r, layers),
  }),
  qwen3(r, layers) {
    const bias = { ...ownBias(r), mlp: false };
    const windows = qwenWindows(r, layers);
    return { defaultKvHeads: 32, defaultHeadDim: 128, bias, qkNorm: true, windows };
  },
  smollm3(r, layers) {
    const interval = r.count("no_rope_layer_interval", 4);
    r.raw("max_window_layers"); // stands in real files; Transformers does not read it
    const isFlag = (v: unknown) => v === 0 || v === 1;
    const flags = r.list<number>("no_rope_layers", layers, "1 to rotate, 0 not to", isFlag);
    const rotates = Array.from(
      { length: layers },
      (_, i) => (flags?.[i] ?? (i + 1) % interval) !== 0,
    );
    const window = r.flag("use_sliding_window", false)
      ? r.countOrNull("sliding_window", null)
      : null;
    r.raw("sliding_window");
    const usual = rotates.map((rotated) => !rotated && window !== null);
    const windows = windowsOf(r, window, usual);
    return {
      defaultKvHeads: 4,
      defaultTheta: 2_000_000,
      defaultTied: true,
      bias: ownBias(r),
      rotates,
      windows,
    };
  },
  gemma2(r, layers) {
    const window = r.countOrNull("sliding_window", 4096);
    const usual = Array.from({ length: layers }, (_, i) => i % 2 === 0);
    r.raw("hidden_act"); // Transformers reads hidden_activation
    return {
      defaultKvHeads: 4,
      defaultHeadDim: 256,
      defaultTied: true,
      activationField: "hidden_activation",
      bias: { ...ownBias(r), mlp: false },
      normOffset: 1,
      sandwich: true,
      embeddingScale: Math.sqrt(r.count("hidden_size")),
      scale: r.positive("query_pre_attn_scalar", 256) ** -0.5,
      scoreCap: r.positiveOrNull("attn_logit_softcapping", 50),
      logitCap: r.positiveOrNull("final_logit_softcapping", 30),
      windows: windowsOf(r, window, usual),
    };
  },
};

export const LLAMA_FAMILIES = Object.keys(FAMILIES) as LlamaFamily[];

function ownBias(r: ConfigReader): DecoderSpec["bias"] {
  const attention = r.flag("attention_bias", false);
  return { qkv: attention, o: attention, mlp: r.flag("mlp_bias", false) };
}

/** Qwen's windows begin at layer `max_window_layers`, where `use_sliding_window` is on. */
function qwenWindows(r: ConfigReader, layers: number): (number | null)[] {
  const given = r.countOrNull("sliding_window", 4096);
  const window = r.flag("use_sliding_window", false) ? given : null;
  const first = r.raw("max_window_layers") ?? 28;
  if (!Number.isSafeInteger(first)) r.refuse("max_window_layers", "an integer", first);
  const usual = Array.from({ length: layers }, (_, i) => window !== null && i >= Number(first));
  return windowsOf(r, window, usual);
}

/** `layer_types`, or `usual` where the file has none: whether each layer's attention slides. */
function windowsOf(
  r: ConfigReader,
  window: number | null,
  usual: readonly boolean[],
): (number | null)[] {
  const names = ["full_attention", "sliding_attention"];
  const isName = (v: unknown) => names.includes(v as string);
  const types = r.list<string>("layer_types", usual.length, names.join(" or "), isName);
  const slides = types?.map((type) => type === "sliding_attention") ?? usual;
  if (window === null && slides.includes(true)) {
    r.refuse("sliding_window", "a number, for layer_types names sliding_attention", null);
  }
  return slides.map((s) => (s ? window : null));
}

/**
 * Reads a configuration of one of the families.
 * @param from  where it came from, for messages
 * @param ignored  fields to pass over
 * @throws FormatError listing every field that is missing, wrong, contradictory or not supported
 */
export function readLlamaConfig(
  config: Readonly<Record<string, unknown>>,
  from = "the configuration",
  ignored: readonly string[] = [],
): DecoderSpec {
  const r = new ConfigReader(config);
  const layers = r.count("num_hidden_layers");
  const own = r.oneOf("model_type", FAMILIES, "llama")(r, layers);
  const heads = r.count("num_attention_heads");
  const hiddenSize = r.count("hidden_size");
  const kvHeads = r.countOrNull("num_key_value_heads", own.defaultKvHeads ?? null) ?? heads;
  const headDim = r.countOrNull("head_dim", own.defaultHeadDim ?? null) ?? hiddenSize / heads;
  if (!Number.isInteger(headDim)) {
    r.refuse("hidden_size", `a multiple of num_attention_heads = ${heads}`, hiddenSize);
  } else if (headDim % 2 !== 0 || headDim > 256) {
    r.refuse("head_dim", "even and at most 256 (default: hidden_size / heads)", headDim);
  }
  if (heads % kvHeads !== 0) {
    r.refuse("num_key_value_heads", `a divisor of num_attention_heads = ${heads}`, kvHeads);
  }
  const maxPositions = r.count("max_position_embeddings");
  const rope = readRope(r, maxPositions, own.defaultTheta ?? 10_000, new Set(ignored));
  const grows = rope.type === "linear" || rope.type === "dynamic";
  const { defaultKvHeads, defaultHeadDim, defaultTheta, defaultTied, activationField, ...rest } =
    own;
  const spec: DecoderSpec = {
    vocabSize: r.count("vocab_size"),
    hiddenSize,
    intermediateSize: r.count("intermediate_size"),
    layers,
    heads,
    kvHeads,
    headDim,
    maxLength: grows ? Math.floor(maxPositions * rope.factor) : maxPositions,
    normEps: r.positive("rms_norm_eps", 1e-6),
    std: r.positive("initializer_range", 0.02),
    tied: r.flag("tie_word_embeddings", defaultTied ?? false),
    activation: r.oneOf(
      activationField ?? "hidden_act",
      ACTIVATIONS,
      activationField ? "gelu_new" : "silu",
    ),
    bias: { qkv: false, o: false, mlp: false },
    qkNorm: false,
    normOffset: 0,
    sandwich: false,
    embeddingScale: 1,
    scale: headDim ** -0.5,
    scoreCap: null,
    logitCap: null,
    windows: Array(layers).fill(null),
    rotates: Array(layers).fill(true),
    rope,
    ...rest,
  };
  checkQuantization(r, ignored);
  r.finish(from, ignored);
  return spec;
}
