// Attention as decoders call it: the fused kernel where it can do what is asked, plain ops where not.
import {
  attention,
  div,
  ge,
  gt,
  le,
  matmul,
  mul,
  permute,
  reshape,
  slice,
  softmax,
  tanh,
  where,
} from "../autograd/ops/index.ts";
import { arange } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface AttendOptions {
  /** Factor of the scores. */
  scale: number;
  /** How many of the rows of k and v count. Default: all. Query i stands at position keys − T + i. */
  keys?: number;
  /** Keys that a query sees, itself included. Default null: all up to its own position. */
  window?: number | null;
  /** Scores s become cap · tanh(s/cap). Default null. */
  cap?: number | null;
  /** First position of each row that may be seen, i32 [B]: what stands before is padding. */
  starts?: Tensor | null;
}

const HIDDEN = -1e30;

/**
 * Causal attention with grouped key/value heads.
 * @param q  [B, T, H, d]
 * @param k  [B, S, Hkv, d]
 * @param v  [B, S, Hkv, d]
 * @returns [B, T, H, d]; of no use for queries at padding
 */
export function attend(q: Tensor, k: Tensor, v: Tensor, options: AttendOptions): Tensor {
  const { scale, keys = k.shape[1]!, window = null, cap = null, starts = null } = options;
  const allInWindow = window === null || keys <= window;
  if (allInWindow && cap === null && !starts) return attention(q, k, v, { scale, keys });
  return plainAttention(q, k, v, { scale, keys, window, cap, starts });
}

/** The same in plain ops, with a buffer of all scores. */
export function plainAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { scale, keys, window, cap, starts }: Required<AttendOptions>,
): Tensor {
  const [B, T, H, d] = q.shape as [number, number, number, number];
  const G = k.shape[2]!;
  const R = H / G;
  const filled = (x: Tensor) => (x.shape[1] === keys ? x : slice(x, 1, 0, keys));
  const queries = permute(reshape(q, [B, T, G, R, d]), [0, 2, 3, 1, 4]); // [B, G, R, T, d]
  const keysT = permute(filled(k), [0, 2, 3, 1]); // [B, G, d, keys]
  const values = permute(filled(v), [0, 2, 1, 3]); // [B, G, keys, d]
  let scores = mul(matmul(reshape(queries, [B, G, R * T, d]), keysT), scale); // [B, G, R·T, keys]
  if (cap !== null) scores = mul(tanh(div(scores, cap)), cap);
  const visible = visibleKeys(T, keys, window, starts); // [B or 1, 1, 1, T, keys]
  const masked = where(visible, reshape(scores, [B, G, R, T, keys]), HIDDEN);
  const weights = reshape(softmax(masked, -1), [B, G, R * T, keys]);
  const y = reshape(matmul(weights, values), [B, G, R, T, d]);
  return reshape(permute(y, [0, 3, 1, 2, 4]), [B, T, H, d]);
}

/** 1 where a query sees a key, 0 elsewhere, u32. */
function visibleKeys(
  T: number,
  keys: number,
  window: number | null,
  starts: Tensor | null,
): Tensor {
  const key = reshape(arange(0, keys, 1, "i32"), [1, 1, 1, 1, keys]);
  const query = reshape(arange(keys - T, keys, 1, "i32"), [1, 1, 1, T, 1]);
  let visible = le(key, query);
  if (window !== null) {
    const first = reshape(arange(keys - T - window, keys - window, 1, "i32"), [1, 1, 1, T, 1]);
    visible = mul(visible, gt(key, first));
  }
  if (!starts) return visible;
  return mul(visible, ge(key, reshape(starts, [starts.size, 1, 1, 1, 1])));
}
