// KVCache: the keys and values of the tokens seen so far, one preallocated pair per layer.
import { ValueError } from "../gpu/errors.ts";
import { refuseCapture } from "../gpu/recording.ts";
import { copyInto } from "../kernels/copy.ts";
import { zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface CacheShape {
  layers: number;
  batch: number;
  /** Most tokens it can hold. */
  maxLength: number;
  kvHeads: number;
  headDim: number;
}

export class KVCache {
  /** Number of tokens that every layer holds. */
  length = 0;
  readonly maxLength: number;
  private readonly layers: { k: Tensor; v: Tensor }[];

  constructor({ layers, batch, maxLength, kvHeads, headDim }: CacheShape) {
    this.maxLength = maxLength;
    const make = () => zeros([batch, maxLength, kvHeads, headDim]).persist();
    this.layers = Array.from({ length: layers }, () => ({ k: make(), v: make() }));
  }

  /**
   * Writes the keys and values of new tokens behind those of layer `index`.
   * @param k  [B, T, Hkv, d]
   * @param v  [B, T, Hkv, d]
   * @returns the whole buffers [B, maxLength, Hkv, d], of which the first `keys` rows are filled
   */
  append(index: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor; keys: number } {
    const layer = this.layers[index]!;
    const keys = this.length + k.shape[1]!;
    if (keys > this.maxLength) {
      const expected = `at most ${this.maxLength} tokens`;
      throw new ValueError({ op: "KVCache", arg: "length", expected, got: `${keys}` });
    }
    copyInto(layer.k, k, 1, this.length);
    copyInto(layer.v, v, 1, this.length);
    return { ...layer, keys };
  }

  /** Counts `tokens` new tokens, once every layer has them. */
  advance(tokens: number): void {
    refuseCapture("KVCache", "adding tokens", "How many there are differs from call to call.");
    this.length += tokens;
  }

  dispose(): void {
    for (const { k, v } of this.layers) {
      k.dispose();
      v.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
