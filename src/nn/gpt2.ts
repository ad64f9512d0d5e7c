// GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each part, GELU, tied output
// weights. Modules are named as in Hugging Face Transformers; weights of Conv1D are [in, out].
import { add, attention, gelu, linear, reshape, slice } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import { arange } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CausalLM, type LMSizes } from "./causal_lm.ts";
import type { KVCache } from "./kv_cache.ts";
import { Conv1D, Dropout, Embedding, LayerNorm } from "./layers.ts";
import { Module } from "./module.ts";

/** The fields of `config.json` that matter here, by their names there. */
export interface GPT2Config {
  vocab_size: number;
  n_positions: number;
  n_embd: number;
  n_layer: number;
  n_head: number;
  n_inner?: number | null;
  layer_norm_epsilon?: number;
  embd_pdrop?: number;
  resid_pdrop?: number;
  initializer_range?: number;
}

type Config = Required<GPT2Config> & { n_inner: number };

class GPT2Attention extends Module<[Tensor, KVCache | undefined]> {
  c_attn: Module;
  c_proj: Module;
  resid_dropout: Dropout;

  constructor(
    private readonly heads: number,
    private readonly index: number,
    { n_embd, resid_pdrop, initializer_range }: Config,
  ) {
    super();
    this.c_attn = new Conv1D(n_embd, 3 * n_embd, initializer_range);
    this.c_proj = new Conv1D(n_embd, n_embd, initializer_range);
    this.resid_dropout = new Dropout(resid_pdrop);
  }

  forward(x: Tensor, cache: KVCache | undefined): Tensor {
    const [B, T, D] = x.shape as [number, number, number];
    const qkv = this.c_attn.call(x); // [B, T, 3·D]
    const part = (i: number) =>
      reshape(slice(qkv, 2, i * D, (i + 1) * D), [B, T, this.heads, D / this.heads]);
    const [q, k, v] = [part(0), part(1), part(2)];
    const past = cache?.append(this.index, k, v);
    const y = past ? attention(q, past.k, past.v, { keys: past.keys }) : attention(q, k, v);
    return this.resid_dropout.call(this.c_proj.call(reshape(y, [B, T, D])));
  }
}

class GPT2MLP extends Module {
  c_fc: Module;
  c_proj: Module;
  dropout: Dropout;

  constructor({ n_embd, n_inner, resid_pdrop, initializer_range }: Config) {
    super();
    this.c_fc = new Conv1D(n_embd, n_inner, initializer_range);
    this.c_proj = new Conv1D(n_inner, n_embd, initializer_range);
    this.dropout = new Dropout(resid_pdrop);
  }

  forward(x: Tensor): Tensor {
    return this.dropout.call(this.c_proj.call(gelu(this.c_fc.call(x), "tanh")));
  }
}

class GPT2Block extends Module<[Tensor, KVCache | undefined]> {
  ln_1: LayerNorm;
  attn: GPT2Attention;
  ln_2: LayerNorm;
  mlp: GPT2MLP;

  constructor(config: Config, index: number) {
    super();
    this.ln_1 = new LayerNorm(config.n_embd, config.layer_norm_epsilon);
    this.attn = new GPT2Attention(config.n_head, index, config);
    this.ln_2 = new LayerNorm(config.n_embd, config.layer_norm_epsilon);
    this.mlp = new GPT2MLP(config);
  }

  forward(x: Tensor, cache: KVCache | undefined): Tensor {
    const h = add(x, this.attn.call(this.ln_1.call(x), cache));
    return add(h, this.mlp.call(this.ln_2.call(h)));
  }
}

class GPT2Model extends Module<[Tensor, KVCache | undefined, number]> {
  wte: Embedding;
  wpe: Embedding;
  drop: Dropout;
  h: GPT2Block[];
  ln_f: LayerNorm;

  constructor(config: Config) {
    super();
    const { n_embd, initializer_range: std } = config;
    this.wte = new Embedding(config.vocab_size, n_embd, std);
    this.wpe = new Embedding(config.n_positions, n_embd, std);
    this.drop = new Dropout(config.embd_pdrop);
    this.h = Array.from({ length: config.n_layer }, (_, i) => new GPT2Block(config, i));
    this.ln_f = new LayerNorm(n_embd, config.layer_norm_epsilon);
  }

  forward(ids: Tensor, cache: KVCache | undefined, offset: number): Tensor {
    const positions = arange(offset, offset + ids.shape[1]!, 1, "i32"); // [T]
    let x = this.drop.call(add(this.wte.call(ids), this.wpe.call(positions)));
    for (const block of this.h) x = block.call(x, cache);
    return this.ln_f.call(x);
  }
}

export class GPT2LMHeadModel extends CausalLM {
  readonly modelType = "gpt2";
  transformer: GPT2Model;
  readonly config: Config;

  constructor(config: GPT2Config) {
    super();
    const { n_embd, n_head } = config;
    if (!Number.isInteger(n_embd / n_head)) {
      const expected = `a divisor of n_embd = ${n_embd}`;
      throw new ValueError({ op: "gpt2", arg: "n_head", expected, got: `${n_head}` });
    }
    this.config = {
      layer_norm_epsilon: 1e-5,
      embd_pdrop: 0,
      resid_pdrop: 0,
      initializer_range: 0.02,
      ...config,
      n_inner: config.n_inner ?? 4 * n_embd,
    };
    this.transformer = new GPT2Model(this.config);
  }

  get sizes(): LMSizes {
    const { vocab_size, n_positions, n_layer, n_head, n_embd } = this.config;
    return {
      vocabSize: vocab_size,
      maxLength: n_positions,
      layers: n_layer,
      kvHeads: n_head,
      headDim: n_embd / n_head,
    };
  }

  hidden(ids: Tensor, cache?: KVCache): Tensor {
    const { T, offset } = this.checkIds(ids, cache);
    const x = this.transformer.call(ids, cache, offset);
    cache?.advance(T);
    return x;
  }

  logits(hidden: Tensor): Tensor {
    return linear(hidden, this.transformer.wte.weight);
  }
}
