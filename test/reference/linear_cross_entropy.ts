// Cross-entropy of the logits x·Wᵀ + bias, with everything in one piece.
import type { Array64, Numbers } from "./arrays.ts";
import { crossEntropy, crossEntropyBackward } from "./cross_entropy.ts";
import { matmul } from "./matmul.ts";

/** N rows of d numbers, V classes. */
export interface HeadSizes {
  N: number;
  d: number;
  V: number;
  /** Logits l become cap·tanh(l/cap); 0 or absent: they stay as they are. */
  cap?: number;
}

function logitsOf(x: Numbers, W: Numbers, bias: Numbers | null, sizes: HeadSizes): Array64 {
  const { N, d, V, cap = 0 } = sizes;
  const logits = matmul(x, [N, d], W, [V, d], { transposeB: true });
  for (let i = 0; bias && i < logits.data.length; i++) logits.data[i]! += bias[i % V]!;
  if (cap > 0)
    logits.data.forEach((l, i) => {
      logits.data[i] = cap * Math.tanh(l / cap);
    });
  return logits;
}

/** One number, as an array of one. 0 where every row is ignored. */
export function linearCrossEntropy(
  x: Numbers,
  W: Numbers,
  bias: Numbers | null,
  targets: Numbers,
  sizes: HeadSizes,
  ignoreIndex = -100,
): Float64Array {
  const { data } = logitsOf(x, W, bias, sizes);
  return crossEntropy(data, [sizes.N, sizes.V], targets, { ignoreIndex });
}

/** dx = dl·W, dW = dlᵀ·x, dbias = column sums of dl, where dl is the gradient of the logits. */
export function linearCrossEntropyBackward(
  dy: Numbers,
  x: Numbers,
  W: Numbers,
  bias: Numbers | null,
  targets: Numbers,
  sizes: HeadSizes,
  ignoreIndex = -100,
): { dx: Float64Array; dW: Float64Array; dbias: Float64Array } {
  const { N, d, V, cap = 0 } = sizes;
  const { data } = logitsOf(x, W, bias, sizes);
  const dl = crossEntropyBackward(dy, data, [N, V], targets, { ignoreIndex });
  if (cap > 0)
    dl.forEach((g, i) => {
      dl[i] = g * (1 - (data[i]! / cap) ** 2);
    });
  const dbias = new Float64Array(V);
  dl.forEach((g, i) => {
    dbias[i % V]! += g;
  });
  return {
    dx: Float64Array.from(matmul(dl, [N, V], W, [V, d]).data),
    dW: Float64Array.from(matmul(dl, [N, V], x, [N, d], { transposeA: true }).data),
    dbias,
  };
}
