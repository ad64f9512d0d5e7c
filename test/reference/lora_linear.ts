// y = x·Wᵀ + bias + s·(D(x)·Aᵀ)·Bᵀ, where D multiplies by a dropout mask of 0 or 1/(1 − p).
import { map, type Numbers } from "./arrays.ts";
import { matmul } from "./matmul.ts";

/** x [N, in], W [out, in], bias [out], A [r, in], B [out, r]. */
export interface LoraSizes {
  N: number;
  in: number;
  out: number;
  r: number;
}

function masked(x: Numbers, mask: Numbers | null): Float64Array {
  return map(x, (v, i) => v * (mask?.[i] ?? 1));
}

/** S = D(x)·Aᵀ, [N, r]. */
function down(x: Numbers, A: Numbers, n: LoraSizes, mask: Numbers | null): Float64Array {
  return matmul(masked(x, mask), [n.N, n.in], A, [n.r, n.in], { transposeB: true }).data;
}

export function loraLinear(
  x: Numbers,
  W: Numbers,
  bias: Numbers | null,
  A: Numbers,
  B: Numbers,
  n: LoraSizes,
  s: number,
  mask: Numbers | null = null,
): Float64Array {
  const base = matmul(x, [n.N, n.in], W, [n.out, n.in], { transposeB: true }).data;
  const S = down(x, A, n, mask);
  const delta = matmul(S, [n.N, n.r], B, [n.out, n.r], { transposeB: true }).data;
  return map(base, (y, i) => y + (bias?.[i % n.out] ?? 0) + s * delta[i]!);
}

/** [dx, dA, dB]; W and bias are frozen. */
export function loraLinearBackward(
  dy: Numbers,
  x: Numbers,
  W: Numbers,
  A: Numbers,
  B: Numbers,
  n: LoraSizes,
  s: number,
  mask: Numbers | null = null,
): [Float64Array, Float64Array, Float64Array] {
  const S = down(x, A, n, mask);
  const dS = matmul(dy, [n.N, n.out], B, [n.out, n.r]).data.map((v) => s * v);
  const dDropped = matmul(dS, [n.N, n.r], A, [n.r, n.in]).data;
  const dBase = matmul(dy, [n.N, n.out], W, [n.out, n.in]).data;
  const dx = map(dBase, (v, i) => v + dDropped[i]! * (mask?.[i] ?? 1));
  const dA = matmul(dS, [n.N, n.r], masked(x, mask), [n.N, n.in], { transposeA: true }).data;
  const dB = matmul(dy, [n.N, n.out], S, [n.N, n.r], { transposeA: true }).data;
  return [dx, dA, dB.map((v) => s * v)];
}
