// Attention with grouped key/value heads: y = softmax(scale·q·kᵀ + mask)·v, head h reading
// key/value head floor(h/(H/Hkv)). Query i stands at position p = S − T + i.
import type { Numbers } from "./arrays.ts";

type Shape4 = readonly [B: number, length: number, heads: number, d: number];

export interface AttentionOptions {
  /** Keys after p are hidden; default true. */
  causal?: boolean;
  /** Default 1/√d. */
  scale?: number;
  /** Keys `window` or more positions away from p are hidden. */
  window?: number;
}

/** Calls `visit` per batch, head and query with the visible keys, their weights, and offsets. */
function eachQuery(
  q: Numbers,
  [B, T, H, d]: Shape4,
  k: Numbers,
  [, S, Hkv]: Shape4,
  { causal = true, scale = 1 / Math.sqrt(d), window = Infinity }: AttentionOptions,
  visit: (qAt: number, kAt: (s: number) => number, weights: Map<number, number>) => void,
): void {
  for (let row = 0; row < B * T * H; row++) {
    const h = row % H;
    const i = Math.floor(row / H) % T;
    const b = Math.floor(row / (H * T));
    const kAt = (s: number) => ((b * S + s) * Hkv + Math.floor(h / (H / Hkv))) * d;
    const scores = new Map<number, number>();
    for (let s = 0; s < S; s++) {
      const ahead = s - (S - T + i);
      if ((causal && ahead > 0) || Math.abs(ahead) >= window) continue;
      let dot = 0;
      for (let j = 0; j < d; j++) dot += q[row * d + j]! * k[kAt(s) + j]!;
      scores.set(s, dot * scale);
    }
    visit(row * d, kAt, normalized(scores));
  }
}

function normalized(scores: Map<number, number>): Map<number, number> {
  const max = Math.max(...scores.values());
  let sum = 0;
  for (const x of scores.values()) sum += Math.exp(x - max);
  return new Map([...scores].map(([s, x]) => [s, Math.exp(x - max) / sum]));
}

/** q [B, T, H, d], k and v [B, S, Hkv, d] → [B, T, H, d]. A query that sees no key gives 0. */
export function attention(
  q: Numbers,
  qShape: Shape4,
  k: Numbers,
  v: Numbers,
  kvShape: Shape4,
  options: AttentionOptions = {},
): Float64Array {
  const y = new Float64Array(q.length);
  const d = qShape[3];
  eachQuery(q, qShape, k, kvShape, options, (at, kAt, weights) => {
    for (const [s, p] of weights) {
      for (let j = 0; j < d; j++) y[at + j]! += p * v[kAt(s) + j]!;
    }
  });
  return y;
}

/** [dq, dk, dv]. */
export function attentionBackward(
  dy: Numbers,
  q: Numbers,
  qShape: Shape4,
  k: Numbers,
  v: Numbers,
  kvShape: Shape4,
  options: AttentionOptions = {},
): [Float64Array, Float64Array, Float64Array] {
  const d = qShape[3];
  const scale = options.scale ?? 1 / Math.sqrt(d);
  const [dq, dk, dv] = [q, k, v].map((x) => new Float64Array(x.length));
  eachQuery(q, qShape, k, kvShape, options, (at, kAt, weights) => {
    const dP = new Map<number, number>();
    let dot = 0;
    for (const [s, p] of weights) {
      let sum = 0;
      for (let j = 0; j < d; j++) {
        sum += dy[at + j]! * v[kAt(s) + j]!;
        dv![kAt(s) + j]! += p * dy[at + j]!;
      }
      dP.set(s, sum);
      dot += sum * p;
    }
    for (const [s, p] of weights) {
      const dScore = scale * p * (dP.get(s)! - dot);
      for (let j = 0; j < d; j++) {
        dq![at + j]! += dScore * k[kAt(s) + j]!;
        dk![kAt(s) + j]! += dScore * q[at + j]!;
      }
    }
  });
  return [dq!, dk!, dv!];
}
