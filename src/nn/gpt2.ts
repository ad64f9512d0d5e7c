// GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each part, GELU, tied output
// weights. Modules are named as in Hugging Face Transformers; weights of Conv1D are [in, out].
import {
  add,
  attention,
  chunk,
  linear,
  maximum,
  reshape,
  slice,
  sub,
} from "../autograd/ops/index.ts";
import { arange } from "../tensor/create.ts";
import { scoped } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type BlockContext, throughBlocks } from "./blocks.ts";
import {
  CausalLM,
  type LMSizes,
  type PlainHead,
  plainHeadOf,
  type RowLayout,
} from "./causal_lm.ts";
import { type GPT2Config, type GPT2Spec, readGPT2Config } from "./gpt2_config.ts";
import type { KVCache } from "./kv_cache.ts";
import { addThenNorm, Conv1D, Dropout, Embedding, LayerNorm, Linear } from "./layers.ts";
import { MLP } from "./mlp.ts";
import { Module } from "./module.ts";

class GPT2Attention extends Module<[Tensor, BlockContext]> {
  c_attn: Module;
  c_proj: Module;
  resid_dropout: Dropout;

  constructor(
    private readonly spec: GPT2Spec,
    private readonly index: number,
  ) {
    super();
    this.c_attn = new Conv1D(spec.width, 3 * spec.width, spec.std);
    this.c_proj = new Conv1D(spec.width, spec.width, spec.std);
    this.resid_dropout = new Dropout(spec.residualDropout);
  }

  forward(x: Tensor, { cache, starts = null }: BlockContext): Tensor {
    const [B, T, D] = x.shape as [number, number, number];
    const { heads, scales } = this.spec;
    const qkv = this.c_attn.call(x); // [B, T, 3·D]
    const parts = chunk(qkv, 3, 2).map((part) => reshape(part, [B, T, heads, D / heads]));
    const [q, k, v] = parts as [Tensor, Tensor, Tensor];
    const past = cache?.append(this.index, k, v) ?? { k, v, keys: T };
    const scale = scales[this.index]!;
    const y = attention(q, past.k, past.v, { scale, starts, keys: past.keys });
    return this.resid_dropout.call(this.c_proj.call(reshape(y, [B, T, D])));
  }
}

/**
 * A block. Its input and its result are sums of which the last summand is still to be added: the norm that
 * comes next adds it on the way.
 */
class GPT2Block extends Module<
  [Tensor, Tensor | null, BlockContext],
  readonly [x: Tensor, residual: Tensor]
> {
  ln_1: LayerNorm;
  attn: GPT2Attention;
  ln_2: LayerNorm;
  mlp: MLP;

  constructor(spec: GPT2Spec, index: number) {
    super();
    this.ln_1 = new LayerNorm(spec.width, spec.normEps);
    this.attn = new GPT2Attention(spec, index);
    this.ln_2 = new LayerNorm(spec.width, spec.normEps);
    const { activation, residualDropout: dropout, std } = spec;
    this.mlp = new MLP(spec.width, spec.innerWidth, { activation, dropout, std });
  }

  forward(
    x: Tensor,
    residual: Tensor | null,
    context: BlockContext,
  ): readonly [x: Tensor, residual: Tensor] {
    const [h, normed] = addThenNorm(this.ln_1, x, residual);
    const [sum, y] = scoped(() => addThenNorm(this.ln_2, h, this.attn.call(normed, context)));
    return [sum, this.mlp.call(y)];
  }
}

/** What a call of the decoder brings besides its ids. */
interface Call {
  cache: KVCache | undefined;
  starts: Tensor | null;
  /** Position of the first token. */
  offset: number;
  recomputes: boolean;
}

class GPT2Model extends Module<[Tensor, Call]> {
  wte: Embedding;
  wpe: Embedding;
  drop: Dropout;
  h: GPT2Block[];
  ln_f: LayerNorm;
  #positions: Tensor | null = null;

  constructor(private readonly spec: GPT2Spec) {
    super();
    this.wte = new Embedding(spec.vocabSize, spec.width, spec.std);
    this.wpe = new Embedding(spec.maxLength, spec.width, spec.std);
    this.drop = new Dropout(spec.embeddingDropout);
    this.h = Array.from({ length: spec.layers }, (_, i) => new GPT2Block(spec, i));
    this.ln_f = new LayerNorm(spec.width, spec.normEps);
  }

  forward(ids: Tensor, { cache, starts, offset, recomputes }: Call): Tensor {
    this.#positions ??= arange(0, this.spec.maxLength, 1, "i32").persist();
    let positions = slice(this.#positions, 0, offset, offset + ids.shape[1]!); // [T]
    // Positions count from the first token of a row, or of its text in a packed row; padding before it
    // takes part in nothing.
    if (starts) {
      const firsts = starts.rank === 1 ? reshape(starts, [starts.size, 1]) : starts;
      positions = maximum(sub(positions, firsts), 0); // [B, T]
    }
    const embedded = scoped(() =>
      this.drop.call(add(this.wte.call(ids), this.wpe.call(positions))),
    );
    const [x, residual] = throughBlocks(this.h, embedded, { cache, starts }, recomputes);
    return addThenNorm(this.ln_f, x, residual)[1];
  }

  override dispose(): void {
    super.dispose();
    this.#positions?.dispose();
    this.#positions = null;
  }
}

export class GPT2LMHeadModel extends CausalLM {
  readonly modelType = "gpt2";
  readonly bodyPrefix = "transformer.";
  readonly embeddingPath = "transformer.wte.weight";
  transformer: GPT2Model;
  /** Absent where the output weights are those of the embedding. */
  lm_head: Module | null;
  readonly config: GPT2Config;
  readonly spec: GPT2Spec;

  /**
   * A decoder with fresh weights.
   * @param config  as in `config.json`
   * @param options  `from`: where the configuration came from; `ignoreConfig`: fields to pass over
   * @throws FormatError listing every field that is missing, wrong or not supported
   */
  constructor(
    config: GPT2Config,
    options: { from?: string; ignoreConfig?: readonly string[] } = {},
  ) {
    super();
    this.config = config;
    this.spec = readGPT2Config(config, options.from, options.ignoreConfig);
    this.transformer = new GPT2Model(this.spec);
    this.lm_head = null;
    if (!this.spec.tied) this.untieHead();
  }

  untieHead(): Linear {
    const { width, vocabSize, std } = this.spec;
    const head = new Linear(width, vocabSize, { bias: false, std });
    this.lm_head = head;
    return head;
  }

  get sizes(): LMSizes {
    const { vocabSize, maxLength, layers, heads, width } = this.spec;
    return { vocabSize, maxLength, layers, kvHeads: heads, headDim: width / heads };
  }

  hidden(ids: Tensor, cache?: KVCache, layout?: RowLayout): Tensor {
    const { T, offset, starts } = this.checkIds(ids, cache, layout);
    const recomputes = this.recomputes(cache);
    const x = this.transformer.call(ids, { cache, starts, offset, recomputes });
    cache?.advance(T);
    return x;
  }

  logits(hidden: Tensor): Tensor {
    return this.lm_head?.call(hidden) ?? linear(hidden, this.transformer.wte.weight);
  }

  protected plainHead(): PlainHead | null {
    return plainHeadOf(this.lm_head, this.transformer.wte.weight);
  }

  override dispose(): void {
    super.dispose();
    this.transformer.dispose();
  }
}
