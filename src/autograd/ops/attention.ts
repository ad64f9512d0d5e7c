import {
  attentionBackwardKV,
  attentionBackwardQ,
  attentionBackwardRows,
  attentionForward,
} from "../../kernels/attention.ts";
import {
  type AttentionOptions,
  type AttentionPlan,
  attentionPlan,
} from "../../kernels/attention_plan.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const attentionOp = op("attention", {
  forward: (q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan) => {
    const { y, lse } = attentionForward(q, k, v, plan);
    const { starts, ends } = plan;
    return [y, { q, k, v, y, lse, starts, ends, plan }];
  },
  backward: (dy, { q, k, v, y, lse, starts, ends, plan }, needs) => {
    const own = { ...plan, starts, ends };
    const stats = attentionBackwardRows(dy, y, lse, own);
    const dq = needs[0] ? attentionBackwardQ(dy, q, k, v, stats, own) : null;
    if (!needs[1] && !needs[2]) return [dq];
    const { dk, dv } = attentionBackwardKV(dy, q, k, v, stats, own);
    return [dq, dk, dv];
  },
});

/**
 * Attention: y = softmax(scale·q·kᵀ + mask)·v, head h reading key/value head floor(h/(H/Hkv)).
 * No [T, keys] buffer is made, forward or backward, and equal inputs give equal bits.
 * @param q  [B, T, H, d], d at most 256; multiples of 4 are fastest
 * @param k  [B, S, Hkv, d], Hkv a divisor of H
 * @param v  [B, S, Hkv, d]
 * @param options  `causal` (default true): query i stands at position keys − T + i and sees the keys
 *   up to that one. `scale`: default 1/√d. `keys`: how many rows of k and v are filled, default S.
 *   `window`: a query sees so many keys, its own position included. `softcap`: scores s become
 *   softcap · tanh(s/softcap). `starts`, `ends`: each query sees keys from `starts` on, before `ends`, i32
 *   [B, T], or [B] for all queries of a batch. Sequences packed into one row, or padding: `starts` is where
 *   the sequence of each position begins (with `causal: false` also `ends`, where it ends); a position that
 *   is padding sees nothing with a start behind it
 * @returns [B, T, H, d]; 0 for a query that sees no key, which gets and gives no gradient
 * @throws DTypeError, ShapeError, ValueError
 * Source: Dao 2023, arXiv 2307.08691. Saves q, k, v, y and one number per query and head; gradients
 * recompute the weights from it.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  return attentionOp(q, k, v, attentionPlan(q, k, v, options));
}
