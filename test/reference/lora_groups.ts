// Groups of rows, each through one linear layer with a low-rank update of its own, or none; in float64.
import type { Numbers } from "./arrays.ts";
import { loraLinear, loraLinearBackward } from "./lora_linear.ts";
import { matmul } from "./matmul.ts";

export interface Group {
  rows: number;
  /** Index of its adapter; null: none. */
  adapter: number | null;
  s: number;
}

/** x [rows, in], W [out, in], bias [out]; A [r, in] and B [out, r] of each adapter. Results and gradients. */
export function loraGroups(
  dy: Numbers,
  x: Numbers,
  W: Numbers,
  bias: Numbers,
  as: readonly { A: Numbers; r: number }[],
  bs: readonly Numbers[],
  groups: readonly Group[],
  n: { in: number; out: number },
) {
  const total = groups.reduce((sum, { rows }) => sum + rows, 0);
  const y: number[] = [];
  const dx: number[] = [];
  const dA = as.map(({ A }) => new Float64Array(A.length));
  const dB = bs.map((B) => new Float64Array(B.length));
  let start = 0;
  for (const { rows, adapter, s } of groups) {
    const part = (values: Numbers, width: number) =>
      Array.from(values).slice(start * width, (start + rows) * width);
    const { A, r } = as[adapter ?? 0]!;
    const [own, B] = [{ N: rows, ...n, r }, bs[adapter ?? 0]!];
    const scale = adapter === null ? 0 : s;
    y.push(...loraLinear(part(x, n.in), W, bias, A, B, own, scale));
    const [gx, gA, gB] = loraLinearBackward(part(dy, n.out), part(x, n.in), W, A, B, own, scale);
    dx.push(...gx);
    if (adapter !== null) {
      for (const [i, v] of gA.entries()) dA[adapter]![i]! += v;
      for (const [i, v] of gB.entries()) dB[adapter]![i]! += v;
    }
    start += rows;
  }
  const dW = matmul(dy, [total, n.out], x, [total, n.in], { transposeA: true }).data;
  const dbias = new Float64Array(n.out);
  for (const [i, v] of Array.from(dy).entries()) dbias[i % n.out]! += v;
  return { y, dx, dA, dB, dW, dbias };
}
