// The Llama-style decoder (Touvron et al. 2023, arXiv 2302.13971): RMSNorm, RoPE, grouped-query attention, a
// gated MLP. One set of modules serves all families; a DecoderSpec says in what they differ. Modules are
// named as in Hugging Face Transformers, so that checkpoints and adapters fit.
import { linear, mul, tanh } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import { scoped } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Attention, type AttentionContext } from "./attention.ts";
import { throughBlocks } from "./blocks.ts";
import {
  CausalLM,
  type LMSizes,
  type PlainHead,
  plainHeadOf,
  type RowLayout,
} from "./causal_lm.ts";
import type { KVCache } from "./kv_cache.ts";
import { addThenNorm, Embedding, Linear, RMSNorm } from "./layers.ts";
import { type DecoderSpec, type LlamaConfig, readLlamaConfig } from "./llama_config.ts";
import { GatedMLP } from "./mlp.ts";
import { Module } from "./module.ts";
import { RopeTables } from "./rope_scaling.ts";

/**
 * A layer of the decoder. Its input and its result are sums of which the last summand is still to be added:
 * the norm that comes next adds it on the way.
 */
class LlamaDecoderLayer extends Module<
  [Tensor, Tensor | null, AttentionContext],
  readonly [x: Tensor, residual: Tensor]
> {
  self_attn: Attention;
  mlp: GatedMLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;
  pre_feedforward_layernorm: RMSNorm | null;
  post_feedforward_layernorm: RMSNorm | null;

  constructor(spec: DecoderSpec, index: number) {
    super();
    this.self_attn = attentionOf(spec, index);
    const { hiddenSize, intermediateSize, activation, bias, std } = spec;
    this.mlp = new GatedMLP(hiddenSize, intermediateSize, { activation, bias: bias.mlp, std });
    this.input_layernorm = normOf(spec);
    this.post_attention_layernorm = normOf(spec);
    this.pre_feedforward_layernorm = spec.sandwich ? normOf(spec) : null;
    this.post_feedforward_layernorm = spec.sandwich ? normOf(spec) : null;
  }

  forward(
    x: Tensor,
    residual: Tensor | null,
    context: AttentionContext,
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

function attentionOf(spec: DecoderSpec, layer: number): Attention {
  const { hiddenSize, heads, kvHeads, headDim, bias, std, scale, scoreCap: cap } = spec;
  const headNormEps = spec.qkNorm ? spec.normEps : null;
  return new Attention(hiddenSize, heads, {
    ...{ kvHeads, headDim, std, scale, cap, headNormEps, layer },
    ...{
      bias: bias.qkv,
      outputBias: bias.o,
      window: spec.windows[layer]!,
      rotates: spec.rotates[layer]!,
    },
  });
}

function normOf({ hiddenSize, normEps, normOffset }: DecoderSpec): RMSNorm {
  return new RMSNorm(hiddenSize, normEps, normOffset);
}

/** What a call of the decoder brings besides its ids. */
interface Call {
  cache: KVCache | undefined;
  /** Position of the first token. */
  offset: number;
  starts: Tensor | null;
  recomputes: boolean;
}

class LlamaModel extends Module<[Tensor, Call]> {
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

  forward(ids: Tensor, { cache, offset, starts, recomputes }: Call): Tensor {
    const angles = this.#tables.at(offset, ids.shape[1]!);
    const context: AttentionContext = { angles, cache, starts };
    const embedded = this.embed_tokens.call(ids);
    const { embeddingScale } = this.spec;
    const scaled = embeddingScale === 1 ? embedded : mul(embedded, embeddingScale);
    const [x, residual] = throughBlocks(this.layers, scaled, context, recomputes);
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
    if (layout?.starts) this.checkPackable(T);
    const recomputes = this.recomputes(cache);
    const x = this.model.call(ids, { cache, offset, starts, recomputes });
    cache?.advance(T);
    return x;
  }

  /** Angles depend on distances alone, and so not on where in a row a text lies; unless they grow with the row. */
  private checkPackable(T: number): void {
    const { rope } = this.spec;
    if (rope.type !== "dynamic" || T <= rope.original) return;
    throw new ValueError({
      op: this.modelType,
      arg: "starts",
      expected: `of rows of at most ${rope.original} tokens, for longer ones change the angles of dynamic RoPE`,
      got: `rows of ${T}`,
    });
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
