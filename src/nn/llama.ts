// The Llama family (Touvron et al. 2023, arXiv 2302.13971): RMSNorm, RoPE, grouped-query attention,
// SwiGLU. Modules are named as in Hugging Face Transformers, so that checkpoints and adapters fit.
import { add, attention, linear, reshape, rope, swiglu } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import { ropeTables } from "../kernels/rope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CausalLM, type LMSizes } from "./causal_lm.ts";
import type { KVCache } from "./kv_cache.ts";
import { Embedding, Linear, RMSNorm } from "./layers.ts";
import { Module } from "./module.ts";

/** The fields of `config.json` that matter here, by their names there. */
export interface LlamaConfig {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads?: number;
  head_dim?: number;
  rms_norm_eps?: number;
  rope_theta?: number;
  /** Where newer files keep `rope_theta`. Only `rope_type: "default"` is known. */
  rope_parameters?: { rope_type?: string; rope_theta?: number } | null;
  max_position_embeddings: number;
  tie_word_embeddings?: boolean;
  attention_bias?: boolean;
  mlp_bias?: boolean;
  initializer_range?: number;
}

type Config = Required<Omit<LlamaConfig, "rope_parameters">>;

function complete(config: LlamaConfig): Config {
  const { rope_parameters, ...given } = config;
  const { hidden_size, num_attention_heads: heads } = given;
  const full: Config = {
    num_key_value_heads: heads,
    head_dim: hidden_size / heads,
    rms_norm_eps: 1e-6,
    rope_theta: rope_parameters?.rope_theta ?? 10000,
    tie_word_embeddings: false,
    attention_bias: false,
    mlp_bias: false,
    initializer_range: 0.02,
    ...given,
  };
  const need = (arg: string, good: boolean, expected: string, got: unknown) => {
    if (!good) throw new ValueError({ op: "llama", arg, expected, got: `${got}` });
  };
  const { head_dim, num_key_value_heads } = full;
  const ropeType = rope_parameters?.rope_type ?? "default";
  need("rope_parameters", ropeType === "default", "of rope_type default", ropeType);
  need(
    "head_dim",
    Number.isInteger(head_dim / 2),
    "an even integer (hidden_size / heads)",
    head_dim,
  );
  need(
    "num_key_value_heads",
    Number.isInteger(heads / num_key_value_heads),
    `a divisor of num_attention_heads = ${heads}`,
    num_key_value_heads,
  );
  return full;
}

/** What a block needs besides its input: rotation tables, position, cache. */
interface Context {
  cos: Tensor;
  sin: Tensor;
  offset: number;
  cache: KVCache | undefined;
}

class LlamaAttention extends Module<[Tensor, Context]> {
  q_proj: Module;
  k_proj: Module;
  v_proj: Module;
  o_proj: Module;

  constructor(
    private readonly config: Config,
    private readonly index: number,
  ) {
    super();
    const { hidden_size, head_dim, num_attention_heads, num_key_value_heads } = config;
    const options = { bias: config.attention_bias, std: config.initializer_range };
    this.q_proj = new Linear(hidden_size, num_attention_heads * head_dim, options);
    this.k_proj = new Linear(hidden_size, num_key_value_heads * head_dim, options);
    this.v_proj = new Linear(hidden_size, num_key_value_heads * head_dim, options);
    this.o_proj = new Linear(num_attention_heads * head_dim, hidden_size, options);
  }

  forward(x: Tensor, { cos, sin, offset, cache }: Context): Tensor {
    const { head_dim: d, num_attention_heads: H, num_key_value_heads: G } = this.config;
    const [B, T] = x.shape as [number, number, number];
    const q = rope(reshape(this.q_proj.call(x), [B, T, H, d]), cos, sin, { offset });
    const k = rope(reshape(this.k_proj.call(x), [B, T, G, d]), cos, sin, { offset });
    const v = reshape(this.v_proj.call(x), [B, T, G, d]);
    const past = cache?.append(this.index, k, v);
    const y = past ? attention(q, past.k, past.v, { keys: past.keys }) : attention(q, k, v);
    return this.o_proj.call(reshape(y, [B, T, H * d]));
  }
}

class LlamaMLP extends Module {
  gate_proj: Module;
  up_proj: Module;
  down_proj: Module;

  constructor({ hidden_size, intermediate_size, mlp_bias, initializer_range }: Config) {
    super();
    const options = { bias: mlp_bias, std: initializer_range };
    this.gate_proj = new Linear(hidden_size, intermediate_size, options);
    this.up_proj = new Linear(hidden_size, intermediate_size, options);
    this.down_proj = new Linear(intermediate_size, hidden_size, options);
  }

  forward(x: Tensor): Tensor {
    return this.down_proj.call(swiglu(this.gate_proj.call(x), this.up_proj.call(x)));
  }
}

class LlamaDecoderLayer extends Module<[Tensor, Context]> {
  self_attn: LlamaAttention;
  mlp: LlamaMLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: Config, index: number) {
    super();
    this.self_attn = new LlamaAttention(config, index);
    this.mlp = new LlamaMLP(config);
    this.input_layernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
  }

  forward(x: Tensor, context: Context): Tensor {
    const h = add(x, this.self_attn.call(this.input_layernorm.call(x), context));
    return add(h, this.mlp.call(this.post_attention_layernorm.call(h)));
  }
}

class LlamaModel extends Module<[Tensor, KVCache | undefined, number]> {
  embed_tokens: Embedding;
  layers: LlamaDecoderLayer[];
  norm: RMSNorm;
  #tables: { cos: Tensor; sin: Tensor } | null = null;

  constructor(private readonly config: Config) {
    super();
    const { vocab_size, hidden_size, num_hidden_layers, rms_norm_eps } = config;
    this.embed_tokens = new Embedding(vocab_size, hidden_size, config.initializer_range);
    this.layers = Array.from(
      { length: num_hidden_layers },
      (_, i) => new LlamaDecoderLayer(config, i),
    );
    this.norm = new RMSNorm(hidden_size, rms_norm_eps);
  }

  forward(ids: Tensor, cache: KVCache | undefined, offset: number): Tensor {
    const context = { ...this.tables(), offset, cache };
    let x = this.embed_tokens.call(ids);
    for (const layer of this.layers) x = layer.call(x, context);
    return this.norm.call(x);
  }

  private tables(): { cos: Tensor; sin: Tensor } {
    if (!this.#tables) {
      const { max_position_embeddings, head_dim, rope_theta } = this.config;
      const { cos, sin } = ropeTables(max_position_embeddings, head_dim, rope_theta);
      this.#tables = { cos: cos.persist(), sin: sin.persist() };
    }
    return this.#tables;
  }

  override dispose(): void {
    super.dispose();
    this.#tables?.cos.dispose();
    this.#tables?.sin.dispose();
    this.#tables = null;
  }
}

export class LlamaForCausalLM extends CausalLM {
  readonly modelType = "llama";
  model: LlamaModel;
  /** Absent where the output weights are those of the embedding. */
  lm_head: Module | null;
  readonly config: Config;

  constructor(config: LlamaConfig) {
    super();
    this.config = complete(config);
    const { hidden_size, vocab_size, initializer_range: std } = this.config;
    this.model = new LlamaModel(this.config);
    this.lm_head = this.config.tie_word_embeddings
      ? null
      : new Linear(hidden_size, vocab_size, { bias: false, std });
  }

  get sizes(): LMSizes {
    const { config: c } = this;
    return {
      vocabSize: c.vocab_size,
      maxLength: c.max_position_embeddings,
      layers: c.num_hidden_layers,
      kvHeads: c.num_key_value_heads,
      headDim: c.head_dim,
    };
  }

  hidden(ids: Tensor, cache?: KVCache): Tensor {
    const { T, offset } = this.checkIds(ids, cache);
    const x = this.model.call(ids, cache, offset);
    cache?.advance(T);
    return x;
  }

  logits(hidden: Tensor): Tensor {
    return this.lm_head?.call(hidden) ?? linear(hidden, this.model.embed_tokens.weight);
  }

  override dispose(): void {
    super.dispose();
    this.model.dispose();
  }
}
