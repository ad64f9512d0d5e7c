// Attention as a module: projections, norms of heads, rotation, the fused kernel, the output projection.
import { attention, reshape, rope } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { callEach } from "./beside.ts";
import type { KVCache } from "./kv_cache.ts";
import { checkSizes, Linear, RMSNorm } from "./layers.ts";
import { Module } from "./module.ts";

export interface AttentionOptions {
  /** Heads of keys and values; heads/kvHeads heads of queries share one. Default: as many as of queries. */
  kvHeads?: number;
  /** Length of a head. Default: width / heads. */
  headDim?: number;
  /** Biases of q_proj, k_proj and v_proj. Default false. */
  bias?: boolean;
  /** Bias of o_proj. Default false. */
  outputBias?: boolean;
  /** Deviation of fresh weights. Default: Linear's own. */
  std?: number;
  /** Factor of the scores. Default 1/√headDim. */
  scale?: number;
  /** Scores s become cap · tanh(s/cap). Default null: as they are. */
  cap?: number | null;
  /** How many keys a query sees, itself included. Default null: all up to its own position. */
  window?: number | null;
  /** Normalises queries and keys head by head (RMSNorm) with this eps. Default null: not. */
  headNormEps?: number | null;
  /** Rotates queries and keys by the angles of the call. Default true. */
  rotates?: boolean;
  /** Which layer of a KVCache is its own. Default 0. */
  layer?: number;
}

/** What a call may bring besides its input. */
export interface AttentionContext {
  /** Cosines and sines of the positions, [positions, headDim/2], and the row of the first token (default 0). */
  angles?: { cos: Tensor; sin: Tensor; offset?: number };
  /** Keys and values of earlier tokens; those of this call are appended. */
  cache?: KVCache | undefined;
  /** First position of each sequence that is no padding, i32 [B]; in packed rows, of each position, [B, T]. */
  starts?: Tensor | null;
}

/**
 * Causal self-attention (Vaswani et al. 2017, arXiv 1706.03762) with grouped heads (Ainslie et al. 2023,
 * arXiv 2305.13245) and rotary positions (Su et al. 2021, arXiv 2104.09864). x: [B, T, width], y the same.
 */
export class Attention extends Module<[Tensor, AttentionContext?]> {
  q_proj: Module;
  k_proj: Module;
  v_proj: Module;
  o_proj: Module;
  q_norm: RMSNorm | null;
  k_norm: RMSNorm | null;
  readonly headDim: number;
  readonly kvHeads: number;

  /** @throws ValueError where sizes are no positive integers, or heads cannot be divided evenly */
  constructor(
    readonly width: number,
    readonly heads: number,
    private readonly options: AttentionOptions = {},
  ) {
    super();
    const { kvHeads = heads, headDim = width / heads, bias = false, outputBias = false } = options;
    checkSizes("Attention", { width, heads, kvHeads });
    checkDivides("width", width, "heads", options.headDim === undefined ? heads : 1);
    checkDivides("heads", heads, "kvHeads", kvHeads);
    checkSizes("Attention", { headDim });
    [this.headDim, this.kvHeads] = [headDim, kvHeads];
    const std = options.std === undefined ? {} : { std: options.std };
    this.q_proj = new Linear(width, heads * headDim, { bias, ...std });
    this.k_proj = new Linear(width, kvHeads * headDim, { bias, ...std });
    this.v_proj = new Linear(width, kvHeads * headDim, { bias, ...std });
    this.o_proj = new Linear(heads * headDim, width, { bias: outputBias, ...std });
    const eps = options.headNormEps ?? null;
    this.q_norm = eps === null ? null : new RMSNorm(headDim, eps);
    this.k_norm = eps === null ? null : new RMSNorm(headDim, eps);
  }

  forward(x: Tensor, context: AttentionContext = {}): Tensor {
    const { headDim: d, heads: H, kvHeads: G } = this;
    const { scale = 1 / Math.sqrt(d), cap = null, window = null, layer = 0 } = this.options;
    const { cache, starts = null } = context;
    const [B, T] = x.shape as [number, number, number];
    const projected = callEach(x, [this.q_proj, this.k_proj, this.v_proj]);
    const [flatQ, flatK, flatV] = projected as [Tensor, Tensor, Tensor];
    const q = this.placed(reshape(flatQ, [B, T, H, d]), this.q_norm, context);
    const k = this.placed(reshape(flatK, [B, T, G, d]), this.k_norm, context);
    const v = reshape(flatV, [B, T, G, d]);
    const past = cache?.append(layer, k, v) ?? { k, v, keys: T };
    const y = attention(q, past.k, past.v, {
      scale,
      softcap: cap,
      window,
      starts,
      keys: past.keys,
    });
    return this.o_proj.call(reshape(y, [B, T, H * d]));
  }

  /** Queries or keys with their norm and their position. */
  private placed(x: Tensor, norm: RMSNorm | null, { angles }: AttentionContext): Tensor {
    const normed = norm?.call(x) ?? x;
    if (!angles || this.options.rotates === false) return normed;
    return rope(normed, angles.cos, angles.sin, { offset: angles.offset ?? 0 });
  }
}

function checkDivides(arg: string, n: number, by: string, divisor: number): void {
  if (n % divisor === 0) return;
  const expected = `a multiple of ${by} = ${divisor}`;
  throw new ValueError({ op: "Attention", arg, expected, got: `${n}` });
}
