// Checks that benches share: a wrong kernel must not get a number.
import type { Tensor } from "../src/tensor/tensor.ts";

/** Throws unless y[0] is the dot product of a and b over K elements at these offsets. */
export async function equalsDot(
  y: Tensor,
  a: Tensor,
  b: Tensor,
  K: number,
  left: (k: number) => number,
  right: (k: number) => number,
): Promise<void> {
  const [ys, as, bs] = [await y.data(), await a.data(), await b.data()];
  let sum = 0;
  for (let k = 0; k < K; k++) sum += as[left(k)]! * bs[right(k)]!;
  if (Math.abs(ys[0]! - sum) <= 1e-5 * K) return;
  throw new Error(`y[0] should be ${sum}, is ${ys[0]}`);
}

/** Throws unless every element is finite and not all are 0. */
export async function looksAlive(y: Tensor): Promise<void> {
  const values = await y.data();
  let other = 0;
  for (const v of values) {
    if (!Number.isFinite(v)) other = Number.NaN;
    else if (v !== 0) other += 1;
  }
  if (other > 0) return;
  throw new Error("the result holds NaN, infinity, or nothing but 0");
}
