// n_o = ‖W_o + s·B_o·A‖, the row norms of an adapted weight, in float64.
import type { Numbers } from "./arrays.ts";
import { type LoraMergeSizes, loraMerge } from "./lora_merge.ts";

/** W [out, in] (or [in, out] with `fanInFanOut`), A [r, in], B [out, r]. */
export function doraNorm(
  W: Numbers,
  A: Numbers,
  B: Numbers,
  n: LoraMergeSizes,
  s: number,
  fanInFanOut = false,
): Float64Array {
  const sum = loraMerge(W, A, B, n, s, fanInFanOut);
  return Float64Array.from({ length: n.out }, (_, o) => {
    let square = 0;
    for (let i = 0; i < n.in; i++) square += sum[fanInFanOut ? i * n.out + o : o * n.in + i]! ** 2;
    return Math.sqrt(square);
  });
}
