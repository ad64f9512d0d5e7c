// Elementwise functions of two arguments with NumPy's broadcasting. Comparisons give 0 or 1.
import { type Array64, broadcast, type Numbers, ravel, sizeOf, unravel } from "./arrays.ts";

type Function2 = (a: number, b: number) => number;

/** At a tie, maximum and minimum send half the gradient to each side, as PyTorch does. */
const share = (wins: boolean, ties: boolean) => (ties ? 0.5 : wins ? 1 : 0);

/** For each name: the function, ∂/∂a and ∂/∂b. */
const DIFFERENTIABLE: Record<string, [Function2, Function2, Function2]> = {
  add: [(a, b) => a + b, () => 1, () => 1],
  sub: [(a, b) => a - b, () => 1, () => -1],
  mul: [(a, b) => a * b, (_, b) => b, (a) => a],
  div: [(a, b) => a / b, (_, b) => 1 / b, (a, b) => -a / (b * b)],
  pow: [
    (a, b) => a ** b,
    (a, b) => (b === 0 ? 0 : b * a ** (b - 1)),
    // 0^b is constant in b, where b ≥ 0.
    (a, b) => (a === 0 && b >= 0 ? 0 : a ** b * Math.log(a)),
  ],
  maximum: [Math.max, (a, b) => share(a > b, a === b), (a, b) => share(b > a, a === b)],
  minimum: [Math.min, (a, b) => share(a < b, a === b), (a, b) => share(b < a, a === b)],
};

const COMPARISONS: Record<string, Function2> = {
  eq: (a, b) => Number(a === b),
  ne: (a, b) => Number(a !== b),
  lt: (a, b) => Number(a < b),
  le: (a, b) => Number(a <= b),
  gt: (a, b) => Number(a > b),
  ge: (a, b) => Number(a >= b),
};

export type BinaryName = "add" | "sub" | "mul" | "div" | "pow" | "maximum" | "minimum";
export type ComparisonName = "eq" | "ne" | "lt" | "le" | "gt" | "ge";

export function binary(
  name: BinaryName | ComparisonName,
  a: Numbers,
  aShape: readonly number[],
  b: Numbers,
  bShape: readonly number[],
): Array64 {
  const f = DIFFERENTIABLE[name]?.[0] ?? COMPARISONS[name]!;
  const shape = broadcast(aShape, bShape);
  const data = new Float64Array(sizeOf(shape));
  for (let i = 0; i < data.length; i++) {
    const at = unravel(i, shape);
    data[i] = f(a[ravel(at, aShape)]!, b[ravel(at, bShape)]!);
  }
  return { data, shape };
}

/** Gradients of a and b; axes that were repeated are summed. */
export function binaryBackward(
  name: BinaryName,
  dy: Numbers,
  a: Numbers,
  aShape: readonly number[],
  b: Numbers,
  bShape: readonly number[],
): [Float64Array, Float64Array] {
  const [, slopeA, slopeB] = DIFFERENTIABLE[name]!;
  const shape = broadcast(aShape, bShape);
  const da = new Float64Array(a.length);
  const db = new Float64Array(b.length);
  for (let i = 0; i < sizeOf(shape); i++) {
    const at = unravel(i, shape);
    const ia = ravel(at, aShape);
    const ib = ravel(at, bShape);
    da[ia]! += dy[i]! * slopeA(a[ia]!, b[ib]!);
    db[ib]! += dy[i]! * slopeB(a[ia]!, b[ib]!);
  }
  return [da, db];
}
