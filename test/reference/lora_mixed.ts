// y_b = x_b·Wᵀ + Σ s·(D(x_b)·Aᵀ)·Bᵀ over the adapters of sequence b, in float64.
import { map, type Numbers } from "./arrays.ts";
import { loraLinear, loraLinearBackward } from "./lora_linear.ts";

/** x [sequences, T, in], W [out, in]. */
export interface MixedSizes {
  T: number;
  in: number;
  out: number;
}

export interface MixedAdapter {
  A: Numbers;
  B: Numbers;
  r: number;
  s: number;
  /** 0 or 1/(1 − p) for the rows that this adapter sees, [its rows, in]. */
  mask: Numbers | null;
}

/** Results and gradients of x, and of each adapter's A and B. `rows[b]`: the adapters of sequence b. */
export function loraMixed(
  dy: Numbers,
  x: Numbers,
  W: Numbers,
  adapters: readonly MixedAdapter[],
  rows: readonly (readonly number[])[],
  { T, in: K, out: N }: MixedSizes,
): { y: Float64Array; dx: Float64Array; dA: Float64Array[]; dB: Float64Array[] } {
  const y = new Float64Array(rows.length * T * N);
  const dx = new Float64Array(rows.length * T * K);
  const dA = adapters.map(({ A }) => new Float64Array(A.length));
  const dB = adapters.map(({ B }) => new Float64Array(B.length));
  const seen = adapters.map(() => 0);
  const part = (values: Numbers, at: number, size: number) =>
    Array.from(values).slice(at * size, (at + 1) * size);
  for (const [b, list] of rows.entries()) {
    const [xb, dyb] = [part(x, b, T * K), part(dy, b, T * N)];
    const base = { N: T, in: K, out: N, r: 1 };
    const [a0, b0] = [new Float64Array(K), new Float64Array(N)];
    const plain = loraLinear(xb, W, null, a0, b0, base, 0);
    const [dPlain] = loraLinearBackward(dyb, xb, W, a0, b0, base, 0);
    y.set(plain, b * T * N);
    dx.set(dPlain, b * T * K);
    for (const i of list) {
      const { A, B, r, s, mask } = adapters[i]!;
      const n = { N: T, in: K, out: N, r };
      const own = mask ? part(mask, seen[i]!, T * K) : null;
      seen[i]! += 1;
      const full = loraLinear(xb, W, null, A, B, n, s, own);
      const [gx, gA, gB] = loraLinearBackward(dyb, xb, W, A, B, n, s, own);
      map(full, (v, j) => (y[b * T * N + j]! += v - plain[j]!));
      map(gx, (v, j) => (dx[b * T * K + j]! += v - dPlain[j]!));
      map(gA, (v, j) => (dA[i]![j]! += v));
      map(gB, (v, j) => (dB[i]![j]! += v));
    }
  }
  return { y, dx, dA, dB };
}
