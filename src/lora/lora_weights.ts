// LoraWeights: one adapter's part of one layer, and what it adds to the layer's result.
//   update(x) = s·(D(x)·Aᵀ)·Bᵀ + s·b      A: [r, in], B: [out, r], b: [out] or absent, D: dropout
import { add, dropout, embedding, linear, mul, transpose } from "../autograd/ops/index.ts";
import { constantInit, kaimingUniformInit, normalInit, uniformInit } from "../nn/init.ts";
import { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CompleteLoraConfig, LoraInit } from "./config.ts";

/** Sizes of a layer as its update sees them: an embedding has `in` rows. */
export interface LayerSizes {
  in: number;
  out: number;
  isEmbedding: boolean;
}

/** Where A and B began that were taken out of the base. */
export interface Start {
  A: Tensor;
  B: Tensor;
}

export class LoraWeights extends Module {
  lora_A: Tensor;
  lora_B: Tensor;
  /** Bias of B (PEFT's lora_bias). */
  lora_bias: Tensor | null;
  /** DoRA's length of each row [out]. */
  lora_magnitude_vector: Tensor | null = null;
  readonly dropout: number;
  #start: Start | null = null;

  constructor(
    readonly sizes: LayerSizes,
    readonly r: number,
    /** s; may be changed at any time. */
    public scaling: number,
    config: CompleteLoraConfig,
  ) {
    super();
    this.dropout = sizes.isEmbedding ? 0 : config.lora_dropout;
    const { A, B } = startingValues(sizes, r, config.init_lora_weights);
    this.lora_A = A;
    this.lora_B = B;
    this.lora_bias = config.lora_bias ? biasInit(sizes, r, config.init_lora_weights) : null;
  }

  /** Where A and B began, if they were taken out of the base (PiSSA, OLoRA). */
  get start(): Start | null {
    return this.#start;
  }

  set start(start: Start | null) {
    this.#start?.A.dispose();
    this.#start?.B.dispose();
    this.#start = start && { A: start.A.persist(), B: start.B.persist() };
  }

  /** Whether elements of its input are dropped now. */
  get drops(): boolean {
    return this.training && this.dropout > 0;
  }

  forward(x: Tensor): Tensor {
    const { lora_A: A, lora_B: B, lora_bias: b } = this;
    const S = this.sizes.isEmbedding
      ? embedding(transpose(A, 0, 1), x)
      : linear(dropout(x, this.dropout, { training: this.training }), A);
    const update = mul(linear(S, B), this.scaling);
    return b ? add(update, mul(b, this.scaling)) : update;
  }

  override dispose(): void {
    super.dispose();
    this.start = null;
  }
}

/** A and B as PEFT starts them. Of an embedding, A is zero and B normal. */
function startingValues({ in: inner, out, isEmbedding }: LayerSizes, r: number, init: LoraInit) {
  const [a, b] = [
    [r, inner],
    [out, r],
  ] as const;
  if (isEmbedding) {
    return { A: init === false ? normalInit(a, 1) : constantInit(a, 0), B: normalInit(b, 1) };
  }
  const A = init === "gaussian" ? normalInit(a, 1 / r) : kaimingUniformInit(a);
  return { A, B: init === false ? kaimingUniformInit(b) : constantInit(b, 0) };
}

function biasInit({ out }: LayerSizes, r: number, init: LoraInit): Tensor {
  return init === false ? uniformInit([out], 1 / Math.sqrt(r)) : constantInit([out], 0);
}
