// CausalLM: what every decoder has in common, whatever its family.
import { crossEntropy, linearCrossEntropy, reshape } from "../autograd/ops/index.ts";
import { DTypeError, ShapeError, ValueError } from "../gpu/errors.ts";
import { tensor } from "../tensor/create.ts";
import { scoped } from "../tensor/scope.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type CacheShape, KVCache } from "./kv_cache.ts";
import { Linear } from "./layers.ts";
import { type AnyModule, Module } from "./module.ts";

/** Sizes that generation and training need to know. */
export interface LMSizes {
  vocabSize: number;
  maxLength: number;
  layers: number;
  kvHeads: number;
  headDim: number;
}

/** What rows of different lengths, or of several texts, need to say. */
export interface RowLayout {
  /** How many tokens at the start of each row are padding, which no other token sees. */
  pads?: readonly number[];
  /**
   * Texts packed into one row: where in its row the text of each token begins, i32 [B, T]. No token sees
   * one of another text, and each text's positions count from its own first token. Not with a cache.
   */
  starts?: Tensor;
}

/** What `logits` computes with: cap(x·weightᵀ + bias + update). weight: [V, D], bias: [V] or null. */
export interface PlainHead {
  weight: Tensor;
  bias: Tensor | null;
  /** Low-rank factors s [..., r] and b [V, r] for what the head is given: s·bᵀ is added. */
  update?: (hidden: Tensor) => { s: Tensor; b: Tensor };
  /** Logits l become cap·tanh(l/cap); 0 or absent: they stay as they are. */
  softcap?: number;
}

/** A module that knows what it computes with as an output head; null where that is more than a plain head does. */
export interface HeadModule {
  asHead(): PlainHead | null;
}

/** A head that is one product, under an adapter or not, or tied to the embedding's weights; null of any other. */
export function plainHeadOf(head: AnyModule | null, tied: Tensor): PlainHead | null {
  if (!head) return { weight: tied, bias: null };
  if (head instanceof Linear) return { weight: head.weight, bias: head.bias };
  return isHeadModule(head) ? head.asHead() : null;
}

const isHeadModule = (module: object): module is HeadModule => "asHead" in module;

export abstract class CausalLM extends Module<[ids: Tensor, cache?: KVCache, layout?: RowLayout]> {
  /** Hugging Face's name of the family, such as `llama`. */
  abstract readonly modelType: string;
  /** The configuration as `config.json` holds it. */
  abstract readonly config: object;
  /** What `generation_config.json` holds: special tokens, and how to sample. */
  generationConfig: Readonly<Record<string, unknown>> = {};
  /** What the names of all parameters but the head's begin with, such as `model.`. */
  abstract readonly bodyPrefix: string;
  /** Name of the embedding's weight, such as `model.embed_tokens.weight`. */
  abstract readonly embeddingPath: string;
  abstract readonly sizes: LMSizes;
  /** The output head; null where the embedding's weight serves as one. */
  abstract lm_head: Module | null;
  #gradientCheckpointing = false;

  /**
   * Whether training keeps of each layer its input alone, and computes the layer again in backward: one more
   * forward pass for most of the memory of activations. Not a bit of loss or gradients changes. Default false.
   */
  get gradientCheckpointing(): boolean {
    return this.#gradientCheckpointing;
  }

  set gradientCheckpointing(value: boolean) {
    this.#gradientCheckpointing = value;
  }

  /** Whether a call is to compute layers again in backward. */
  protected recomputes(cache: KVCache | undefined): boolean {
    return this.#gradientCheckpointing && this.training && !cache;
  }

  /**
   * What the last layer makes of each token, normalised: `logits` turns it into logits.
   * @param ids  [B, T] of i32 or u32
   * @param cache  keys and values of the tokens before; those of `ids` are added
   * @param layout  padding at the start of rows, the same in every call with one cache; or packed texts
   * @returns [B, T, D]
   */
  abstract hidden(ids: Tensor, cache?: KVCache, layout?: RowLayout): Tensor;

  /** Gives the model an output head of its own, with fresh weights, in the place of the embedding's. */
  abstract untieHead(): Linear;

  /**
   * The output head.
   * @param hidden  [..., D], from `hidden`
   * @returns [..., V]
   */
  abstract logits(hidden: Tensor): Tensor;

  /**
   * The output head where `logits` does no more than multiply by its weights, add a low-rank update, and
   * perhaps cap the result, so that `loss` need not build the logits; null where it does more.
   */
  protected abstract plainHead(): PlainHead | null;

  /**
   * Logits of the token that follows each position: `logits(hidden(ids))`.
   * @param ids  [B, T] of i32 or u32
   * @param cache  keys and values of the tokens before; those of `ids` are added
   * @param layout  padding at the start of rows, or packed texts
   * @returns [B, T, V]
   */
  forward(ids: Tensor, cache?: KVCache, layout?: RowLayout): Tensor {
    return this.logits(this.hidden(ids, cache, layout));
  }

  /**
   * Mean cross-entropy of the targets in nats. With a plain head the logits are never whole.
   * @param ids  [B, T]
   * @param targets  [B, T], the token that follows each position; −100 where none counts, as at the end of
   *   each of several texts in a row
   * @param layout  packed texts: the mean is then over the tokens of all of them
   * @throws ShapeError, DTypeError, ValueError
   */
  loss(ids: Tensor, targets: Tensor, layout?: RowLayout): Tensor {
    if (format(ids.shape) !== format(targets.shape)) {
      throw new ShapeError({
        op: "loss",
        arg: "targets",
        expected: `of the shape of ids, ${format(ids.shape)}`,
        got: format(targets.shape),
      });
    }
    return scoped(() => this.headLoss(this.hidden(ids, undefined, layout), targets));
  }

  /**
   * The second half of `loss`.
   * @param hidden  [B, T, D], from `hidden`
   * @param targets  [B, T], as for `loss`
   */
  headLoss(hidden: Tensor, targets: Tensor): Tensor {
    return scoped(() => {
      const head = this.plainHead();
      if (head) {
        const { weight, bias, softcap = 0 } = head;
        const update = head.update?.(hidden) ?? null;
        return linearCrossEntropy(hidden, weight, bias, targets, { softcap, update });
      }
      const n = targets.size;
      const logits = reshape(this.logits(hidden), [n, this.sizes.vocabSize]);
      return crossEntropy(logits, reshape(targets, [n]));
    });
  }

  /** An empty key/value cache for `batch` sequences of at most `maxLength` tokens. */
  newCache(batch: number, maxLength = this.sizes.maxLength): KVCache {
    const { layers, kvHeads, headDim } = this.sizes;
    const shape: CacheShape = { layers, batch, maxLength, kvHeads, headDim };
    return new KVCache(shape);
  }

  /** Checks what `hidden` was given. `starts`: the first position that a row, i32 [B], or a token, [B, T], sees. */
  protected checkIds(
    ids: Tensor,
    cache?: KVCache,
    layout: RowLayout = {},
  ): { B: number; T: number; offset: number; starts: Tensor | null } {
    const [B, T] = ids.shape as [number, number];
    const offset = cache?.length ?? 0;
    if (ids.rank !== 2 || offset + T > this.sizes.maxLength) {
      throw new ShapeError({
        op: this.modelType,
        arg: "ids",
        expected: `[batch, tokens] with at most ${this.sizes.maxLength} tokens`,
        got: offset > 0 ? `${format(ids.shape)} behind ${offset}` : format(ids.shape),
      });
    }
    const { pads, starts } = layout;
    if (starts) {
      this.checkStarts(starts, ids, cache !== undefined, pads !== undefined);
      return { B, T, offset, starts };
    }
    if (!pads?.some((n) => n !== 0)) return { B, T, offset, starts: null };
    const fits = pads.every((n) => Number.isSafeInteger(n) && n >= 0 && n < offset + T);
    if (pads.length !== B || !fits) {
      const expected = `${B} integers in [0, ${offset + T - 1}], one per row of ids`;
      throw new ValueError({ op: this.modelType, arg: "pads", expected, got: `[${pads}]` });
    }
    return { B, T, offset, starts: tensor(Int32Array.from(pads)) };
  }

  private checkStarts(starts: Tensor, ids: Tensor, cached: boolean, padded: boolean): void {
    const facts = { op: this.modelType, arg: "starts" };
    if (cached || padded) {
      const got = cached ? "both starts and a cache" : "both starts and pads";
      throw new ValueError({ ...facts, expected: "given alone", got });
    }
    if (starts.dtype !== "i32")
      throw new DTypeError({ ...facts, expected: "i32", got: starts.dtype });
    if (format(starts.shape) === format(ids.shape)) return;
    const expected = `of the shape of ids, ${format(ids.shape)}`;
    throw new ShapeError({ ...facts, expected, got: format(starts.shape) });
  }
}
