// The Llama-style decoder (Touvron et al. 2023, arXiv 2302.13971): RMSNorm, RoPE, grouped-query attention, a
// gated MLP. One set of modules serves all families; a DecoderSpec says in what they differ. Modules are
// named as in Hugging Face Transformers, so that checkpoints and adapters fit.
import { gelu, linear, mul, relu, reshape, rope, swiglu, tanh } from "../autograd/ops/index.ts";
import { scoped } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { attend } from "./attend.ts";
import {
  CausalLM,
  type LMSizes,
  type PlainHead,
  plainHeadOf,
  type RowLayout,
} from "./causal_lm.ts";
import type { KVCache } from "./kv_cache.ts";
import { addThenNorm, Embedding, Linear, RMSNorm, throughBlocks } from "./layers.ts";
import {
  type Activation,
  type DecoderSpec,
  type LlamaConfig,
  readLlamaConfig,
} from "./llama_config.ts";
import { Module } from "./module.ts";
import { RopeTables } from "./rope_scaling.ts";

/** What a block needs besides its input: rotation tables and the row of the first token, cache, padding. */
interface Context {
  cos: Tensor;
  sin: Tensor;
  offset: number;
  cache: KVCache | undefined;
  starts: Tensor | null;
}

class LlamaAttention extends Module<[Tensor, Context]> {
  q_proj: Module;
  k_proj: Module;
  v_proj: Module;
  o_proj: Module;
  q_norm: RMSNorm | null;
  k_norm: RMSNorm | null;

  constructor(
    private readonly spec: DecoderSpec,
    private readonly index: number,
  ) {
    super();
    const { hiddenSize, headDim, heads, kvHeads, bias, std } = spec;
    this.q_proj = new Linear(hiddenSize, heads * headDim, { bias: bias.qkv, std });
    this.k_proj = new Linear(hiddenSize, kvHeads * headDim, { bias: bias.qkv, std });
    this.v_proj = new Linear(hiddenSize, kvHeads * headDim, { bias: bias.qkv, std });
    this.o_proj = new Linear(heads * headDim, hiddenSize, { bias: bias.o, std });
    this.q_norm = spec.qkNorm ? new RMSNorm(headDim, spec.normEps) : null;
    this.k_norm = spec.qkNorm ? new RMSNorm(headDim, spec.normEps) : null;
  }

  forward(x: Tensor, context: Context): Tensor {
    const { headDim: d, heads: H, kvHeads: G, scale, scoreCap: cap } = this.spec;
    const { cache, starts } = context;
    const [B, T] = x.shape as [number, number, number];
    const q = this.placed(reshape(this.q_proj.call(x), [B, T, H, d]), this.q_norm, context);
    const k = this.placed(reshape(this.k_proj.call(x), [B, T, G, d]), this.k_norm, context);
    const v = reshape(this.v_proj.call(x), [B, T, G, d]);
    const window = this.spec.windows[this.index]!;
    const past = cache?.append(this.index, k, v) ?? { k, v, keys: T };
    const y = attend(q, past.k, past.v, { scale, cap, window, starts, keys: past.keys });
    return this.o_proj.call(reshape(y, [B, T, H * d]));
  }

  /** Queries or keys with their norm and their position. */
  private placed(x: Tensor, norm: RMSNorm | null, { cos, sin, offset }: Context): Tensor {
    const normed = norm?.call(x) ?? x;
    return this.spec.rotates[this.index] ? rope(normed, cos, sin, { offset }) : normed;
  }
}

class LlamaMLP extends Module {
  gate_proj: Module;
  up_proj: Module;
  down_proj: Module;

  constructor(private readonly spec: DecoderSpec) {
    super();
    const { hiddenSize, intermediateSize, std } = spec;
    const options = { bias: spec.bias.mlp, std };
    this.gate_proj = new Linear(hiddenSize, intermediateSize, options);
    this.up_proj = new Linear(hiddenSize, intermediateSize, options);
    this.down_proj = new Linear(intermediateSize, hiddenSize, options);
  }

  forward(x: Tensor): Tensor {
    const [gate, up] = [this.gate_proj.call(x), this.up_proj.call(x)];
    return this.down_proj.call(gated(this.spec.activation, gate, up));
  }
}

/** activation(gate) · up. */
function gated(activation: Activation, gate: Tensor, up: Tensor): Tensor {
  switch (activation) {
    case "silu":
      return swiglu(gate, up);
    case "relu":
      return mul(relu(gate), up);
    default:
      return mul(gelu(gate, activation === "gelu_tanh" ? "tanh" : "none"), up);
  }
}

/**
 * A layer of the decoder. Its input and its result are sums of which the last summand is still to be added:
 * the norm that comes next adds it on the way.
 */
class LlamaDecoderLayer extends Module<
  [Tensor, Tensor | null, Context],
  readonly [x: Tensor, residual: Tensor]
> {
  self_attn: LlamaAttention;
  mlp: LlamaMLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;
  pre_feedforward_layernorm: RMSNorm | null;
  post_feedforward_layernorm: RMSNorm | null;

  constructor(spec: DecoderSpec, index: number) {
    super();
    this.self_attn = new LlamaAttention(spec, index);
    this.mlp = new LlamaMLP(spec);
    this.input_layernorm = normOf(spec);
    this.post_attention_layernorm = normOf(spec);
    this.pre_feedforward_layernorm = spec.sandwich ? normOf(spec) : null;
    this.post_feedforward_layernorm = spec.sandwich ? normOf(spec) : null;
  }

  forward(
    x: Tensor,
    residual: Tensor | null,
    context: Context,
  ): readonly [x: Tensor, residual: Tensor] {
    const [h, normed] = addThenNorm(this.input_layernorm, x, residual);
    const attended = () => this.self_attn.call(normed, context);
    const [before, after] = [this.pre_feedforward_layernorm, this.post_feedforward_layernorm];
    if (!before || !after) {
      const [sum, y] = scoped(() => addThenNorm(this.post_attention_layernorm, h, attended()));
      return [sum, this.mlp.call(y)];
    }
    const [sum, y] = scoped(() =>
      addThenNorm(before, h, this.post_attention_layernorm.call(attended())),
    );
    return [sum, after.call(this.mlp.call(y))];
  }
}

function normOf({ hiddenSize, normEps, normOffset }: DecoderSpec): RMSNorm {
  return new RMSNorm(hiddenSize, normEps, normOffset);
}

class LlamaModel extends Module<[Tensor, KVCache | undefined, number, Tensor | null]> {
  embed_tokens: Embedding;
  layers: LlamaDecoderLayer[];
  norm: RMSNorm;
  readonly #tables: RopeTables;

  constructor(private readonly spec: DecoderSpec) {
    super();
    this.embed_tokens = new Embedding(spec.vocabSize, spec.hiddenSize, spec.std);
    this.layers = Array.from({ length: spec.layers }, (_, i) => new LlamaDecoderLayer(spec, i));
    this.norm = normOf(spec);
    this.#tables = new RopeTables(spec.rope, spec.headDim, spec.maxLength);
  }

  forward(ids: Tensor, cache: KVCache | undefined, offset: number, starts: Tensor | null): Tensor {
    const context: Context = { ...this.#tables.at(offset, ids.shape[1]!), cache, starts };
    const embedded = this.embed_tokens.call(ids);
    const { embeddingScale } = this.spec;
    const scaled = embeddingScale === 1 ? embedded : mul(embedded, embeddingScale);
    const [x, residual] = throughBlocks(this.layers, scaled, context);
    return addThenNorm(this.norm, x, residual)[1];
  }

  override dispose(): void {
    super.dispose();
    this.#tables.dispose();
  }
}

export class LlamaForCausalLM extends CausalLM {
  readonly modelType: string;
  readonly bodyPrefix = "model.";
  readonly embeddingPath = "model.embed_tokens.weight";
  model: LlamaModel;
  /** Absent where the output weights are those of the embedding. */
  lm_head: Module | null;
  readonly config: LlamaConfig;
  readonly spec: DecoderSpec;

  /**
   * A decoder with fresh weights.
   * @param config  as in `config.json`; `model_type` chooses the family
   * @param options  `from`: where the configuration came from; `ignoreConfig`: fields to pass over
   * @throws FormatError listing every field that is missing, wrong or not supported
   */
  constructor(
    config: LlamaConfig,
    options: { from?: string; ignoreConfig?: readonly string[] } = {},
  ) {
    super();
    this.config = config;
    this.modelType = config.model_type ?? "llama";
    this.spec = readLlamaConfig(config, options.from, options.ignoreConfig);
    this.model = new LlamaModel(this.spec);
    this.lm_head = null;
    if (!this.spec.tied) this.untieHead();
  }

  untieHead(): Linear {
    const { hiddenSize, vocabSize, std } = this.spec;
    const head = new Linear(hiddenSize, vocabSize, { bias: false, std });
    this.lm_head = head;
    return head;
  }

  get sizes(): LMSizes {
    const { vocabSize, maxLength, layers, kvHeads, headDim } = this.spec;
    return { vocabSize, maxLength, layers, kvHeads, headDim };
  }

  hidden(ids: Tensor, cache?: KVCache, layout?: RowLayout): Tensor {
    const { T, offset, starts } = this.checkIds(ids, cache, layout);
    const x = this.model.call(ids, cache, offset, starts);
    cache?.advance(T);
    return x;
  }

  logits(hidden: Tensor): Tensor {
    const { logitCap: cap } = this.spec;
    const plain = this.lm_head?.call(hidden) ?? linear(hidden, this.model.embed_tokens.weight);
    return cap === null ? plain : mul(tanh(mul(plain, 1 / cap)), cap);
  }

  protected plainHead(): PlainHead | null {
    const head = plainHeadOf(this.lm_head, this.model.embed_tokens.weight);
    return head && { ...head, softcap: this.spec.logitCap ?? 0 };
  }

  override dispose(): void {
    super.dispose();
    this.model.dispose();
  }
}
