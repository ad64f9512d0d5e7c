// CausalLM: what every decoder has in common, whatever its family.
import { crossEntropy, reshape } from "../autograd/ops/index.ts";
import { ShapeError } from "../gpu/errors.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type CacheShape, KVCache } from "./kv_cache.ts";
import { Module } from "./module.ts";

/** Sizes that generation and training need to know. */
export interface LMSizes {
  vocabSize: number;
  maxLength: number;
  layers: number;
  kvHeads: number;
  headDim: number;
}

export abstract class CausalLM extends Module<[ids: Tensor, cache?: KVCache]> {
  /** Hugging Face's name of the family, such as `llama`. */
  abstract readonly modelType: string;
  /** The configuration as `config.json` holds it. */
  abstract readonly config: object;
  abstract readonly sizes: LMSizes;

  /**
   * What the last layer makes of each token, normalised: `logits` turns it into logits.
   * @param ids  [B, T] of i32 or u32
   * @param cache  keys and values of the tokens before; those of `ids` are added
   * @returns [B, T, D]
   */
  abstract hidden(ids: Tensor, cache?: KVCache): Tensor;

  /**
   * The output head.
   * @param hidden  [..., D], from `hidden`
   * @returns [..., V]
   */
  abstract logits(hidden: Tensor): Tensor;

  /**
   * Logits of the token that follows each position: `logits(hidden(ids))`.
   * @param ids  [B, T] of i32 or u32
   * @param cache  keys and values of the tokens before; those of `ids` are added
   * @returns [B, T, V]
   */
  forward(ids: Tensor, cache?: KVCache): Tensor {
    return this.logits(this.hidden(ids, cache));
  }

  /**
   * Mean cross-entropy of the targets in nats.
   * @param ids  [B, T]
   * @param targets  [B, T], the token that follows each position; −100 where none counts
   */
  loss(ids: Tensor, targets: Tensor): Tensor {
    if (format(ids.shape) !== format(targets.shape)) {
      throw new ShapeError({
        op: "loss",
        arg: "targets",
        expected: `of the shape of ids, ${format(ids.shape)}`,
        got: format(targets.shape),
      });
    }
    const n = targets.size;
    const logits = this.call(ids); // [B, T, V]
    return crossEntropy(reshape(logits, [n, this.sizes.vocabSize]), reshape(targets, [n]));
  }

  /** An empty key/value cache for `batch` sequences of at most `maxLength` tokens. */
  newCache(batch: number, maxLength = this.sizes.maxLength): KVCache {
    const { layers, kvHeads, headDim } = this.sizes;
    const shape: CacheShape = { layers, batch, maxLength, kvHeads, headDim };
    return new KVCache(shape);
  }

  protected checkIds(ids: Tensor, cache?: KVCache): { B: number; T: number; offset: number } {
    const [B, T] = ids.shape;
    const offset = cache?.length ?? 0;
    if (ids.rank === 2 && offset + T! <= this.sizes.maxLength) return { B: B!, T: T!, offset };
    throw new ShapeError({
      op: this.modelType,
      arg: "ids",
      expected: `[batch, tokens] with at most ${this.sizes.maxLength} tokens`,
      got: offset > 0 ? `${format(ids.shape)} behind ${offset}` : format(ids.shape),
    });
  }
}
