// The fields of a GPT-2 config.json, by the defaults of Hugging Face Transformers 5.
import { ConfigReader } from "./config_reader.ts";
import { ACTIVATIONS } from "./llama_config.ts";
import type { Activation } from "./mlp.ts";
import { checkQuantization } from "./quantization_config.ts";

/** The fields of `config.json`, by their names there. */
export interface GPT2Config {
  vocab_size: number;
  n_positions: number;
  n_embd: number;
  n_layer: number;
  n_head: number;
  n_inner?: number | null;
  activation_function?: string;
  layer_norm_epsilon?: number;
  embd_pdrop?: number;
  resid_pdrop?: number;
  initializer_range?: number;
  tie_word_embeddings?: boolean;
  [field: string]: unknown;
}

/** What a GPT-2 computes, complete and checked. */
export interface GPT2Spec {
  vocabSize: number;
  maxLength: number;
  width: number;
  innerWidth: number;
  layers: number;
  heads: number;
  activation: Activation;
  normEps: number;
  embeddingDropout: number;
  residualDropout: number;
  /** Factor of the attention scores of each layer. */
  scales: readonly number[];
  /** Deviation of fresh weights. */
  std: number;
  /** The head's weights are those of the embedding. */
  tied: boolean;
}

/**
 * Reads a configuration. Dropout counts as 0 where a file does not name it.
 * @param from  where it came from, for messages
 * @param ignored  fields to pass over
 * @throws FormatError listing every field that is missing, wrong or not supported
 */
export function readGPT2Config(
  config: Readonly<Record<string, unknown>>,
  from = "the configuration",
  ignored: readonly string[] = [],
): GPT2Spec {
  const r = new ConfigReader(config);
  const [width, heads, layers] = [r.count("n_embd"), r.count("n_head"), r.count("n_layer")];
  if (width % heads !== 0) r.refuse("n_head", `a divisor of n_embd = ${width}`, heads);
  else if (width / heads > 256) r.refuse("n_head", "at least n_embd / 256", heads);
  const scale = r.flag("scale_attn_weights", true) ? Math.sqrt(heads / width) : 1;
  const byLayer = r.flag("scale_attn_by_inverse_layer_idx", false);
  for (const name of ["n_ctx", "reorder_and_upcast_attn"]) r.raw(name); // change no numbers in f32
  const spec: GPT2Spec = {
    vocabSize: r.count("vocab_size"),
    maxLength: r.count("n_positions"),
    width,
    innerWidth: r.countOrNull("n_inner", null) ?? 4 * width,
    layers,
    heads,
    activation: r.oneOf("activation_function", ACTIVATIONS, "gelu_new"),
    normEps: r.positive("layer_norm_epsilon", 1e-5),
    embeddingDropout: r.probability("embd_pdrop", 0),
    residualDropout: r.probability("resid_pdrop", 0),
    scales: Array.from({ length: layers }, (_, i) => scale / (byLayer ? i + 1 : 1)),
    std: r.positive("initializer_range", 0.02),
    tied: r.flag("tie_word_embeddings", true),
  };
  checkQuantization(r, ignored);
  r.finish(from, ignored);
  return spec;
}
