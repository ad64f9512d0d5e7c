// Mean over the rows that count of −log softmax(logits)[target], smoothed by ε:
// (1 − ε)·(−log p_target) + ε·mean_v(−log p_v).
import type { Numbers } from "./arrays.ts";
import { logSoftmax } from "./softmax.ts";

export interface CrossEntropyOptions {
  /** Rows with this target count for nothing; default −100. */
  ignoreIndex?: number;
  labelSmoothing?: number;
}

/** One number, as an array of one. 0 where every row is ignored. */
export function crossEntropy(
  logits: Numbers,
  shape: readonly [number, number],
  targets: Numbers,
  { ignoreIndex = -100, labelSmoothing = 0 }: CrossEntropyOptions = {},
): Float64Array {
  const [N, V] = shape;
  const logP = logSoftmax(logits, shape);
  let loss = 0;
  let count = 0;
  for (let i = 0; i < N; i++) {
    if (targets[i] === ignoreIndex) continue;
    count += 1;
    loss -= (1 - labelSmoothing) * logP[i * V + targets[i]!]!;
    for (let v = 0; v < V; v++) loss -= (labelSmoothing / V) * logP[i * V + v]!;
  }
  return Float64Array.of(count === 0 ? 0 : loss / count);
}

/** dlogits = dy/count·(softmax − smoothed one-hot); 0 in ignored rows. */
export function crossEntropyBackward(
  dy: Numbers,
  logits: Numbers,
  shape: readonly [number, number],
  targets: Numbers,
  { ignoreIndex = -100, labelSmoothing = 0 }: CrossEntropyOptions = {},
): Float64Array {
  const [N, V] = shape;
  const logP = logSoftmax(logits, shape);
  let count = 0;
  for (let i = 0; i < N; i++) if (targets[i] !== ignoreIndex) count += 1;
  const dLogits = new Float64Array(N * V);
  for (let i = 0; i < N; i++) {
    if (targets[i] === ignoreIndex) continue;
    for (let v = 0; v < V; v++) {
      const wanted = (v === targets[i] ? 1 - labelSmoothing : 0) + labelSmoothing / V;
      dLogits[i * V + v] = (dy[0]! / count) * (Math.exp(logP[i * V + v]!) - wanted);
    }
  }
  return dLogits;
}
