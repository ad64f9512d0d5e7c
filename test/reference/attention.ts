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
  /** Scores s become softcap · tanh(s/softcap). */
  softcap?: number;
  /** The first key that each query sees, and the key after the last: [B, T] or [B]. */
  starts?: Numbers;
  ends?: Numbers;
}

/** A visible key's weight, and the derivative of its score by scale · q·k. */
interface Seen {
  p: number;
  slope: number;
}

/** Calls `visit` per batch, head and query with the visible keys, their weights, and offsets. */
function eachQuery(
  q: Numbers,
  [B, T, H, d]: Shape4,
  k: Numbers,
  [, S, Hkv]: Shape4,
  options: AttentionOptions,
  visit: (qAt: number, kAt: (s: number) => number, seen: Map<number, Seen>) => void,
): void {
  const { scale = 1 / Math.sqrt(d), softcap } = options;
  for (let row = 0; row < B * T * H; row++) {
    const h = row % H;
    const i = Math.floor(row / H) % T;
    const b = Math.floor(row / (H * T));
    const kAt = (s: number) => ((b * S + s) * Hkv + Math.floor(h / (H / Hkv))) * d;
    const scores = new Map<number, number>();
    for (let s = 0; s < S; s++) {
      if (!sees(b, i, s, [B, T, S], options)) continue;
      let dot = 0;
      for (let j = 0; j < d; j++) dot += q[row * d + j]! * k[kAt(s) + j]!;
      scores.set(s, softcap ? softcap * Math.tanh((dot * scale) / softcap) : dot * scale);
    }
    const slope = (s: number) => (softcap ? 1 - (scores.get(s)! / softcap) ** 2 : 1);
    const seen = [...normalized(scores)].map(([s, p]) => [s, { p, slope: slope(s) }] as const);
    visit(row * d, kAt, new Map(seen));
  }
}

function sees(
  b: number,
  i: number,
  s: number,
  [B, T, S]: readonly [number, number, number],
  { causal = true, window = Infinity, starts, ends }: AttentionOptions,
): boolean {
  const ahead = s - (S - T + i);
  if ((causal && ahead > 0) || Math.abs(ahead) >= window) return false;
  const of = (range: Numbers) => range[range.length === B * T ? b * T + i : b]!;
  return s >= (starts ? of(starts) : 0) && s < (ends ? of(ends) : S);
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
  eachQuery(q, qShape, k, kvShape, options, (at, kAt, seen) => {
    for (const [s, { p }] of seen) {
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
  eachQuery(q, qShape, k, kvShape, options, (at, kAt, seen) => {
    const dP = new Map<number, number>();
    let dot = 0;
    for (const [s, { p }] of seen) {
      let sum = 0;
      for (let j = 0; j < d; j++) {
        sum += dy[at + j]! * v[kAt(s) + j]!;
        dv![kAt(s) + j]! += p * dy[at + j]!;
      }
      dP.set(s, sum);
      dot += sum * p;
    }
    for (const [s, { p, slope }] of seen) {
      const dScore = scale * slope * p * (dP.get(s)! - dot);
      for (let j = 0; j < d; j++) {
        dq![at + j]! += dScore * k[kAt(s) + j]!;
        dk![kAt(s) + j]! += dScore * q[at + j]!;
      }
    }
  });
  return [dq!, dk!, dv!];
}
