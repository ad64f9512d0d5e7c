// W'_o = g_o·W_o + s·B_o·A, or its transpose for weights stored [in, out] (GPT-2's Conv1D).
import type { Numbers } from "./arrays.ts";

export interface LoraMergeSizes {
  in: number;
  out: number;
  r: number;
}

/** W [out, in] (or [in, out] with `fanInFanOut`), A [r, in], B [out, r]. */
export function loraMerge(
  W: Numbers,
  A: Numbers,
  B: Numbers,
  n: LoraMergeSizes,
  s: number,
  fanInFanOut = false,
  gain: Numbers | null = null,
): Float64Array {
  const merged = Float64Array.from(W);
  for (let o = 0; o < n.out; o++) {
    for (let i = 0; i < n.in; i++) {
      let sum = 0;
      for (let k = 0; k < n.r; k++) sum += B[o * n.r + k]! * A[k * n.in + i]!;
      const at = fanInFanOut ? i * n.out + o : o * n.in + i;
      merged[at] = merged[at]! * (gain?.[o] ?? 1) + s * sum;
    }
  }
  return merged;
}
