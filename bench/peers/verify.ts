// What must hold before anything is timed: our products are those of float64, the others' results are ours.
import type { PeerCase } from "./cases.ts";

const SAMPLES = 200;

/** Says what is wrong with our result, or null: some elements of a product are summed again in float64. */
export function wrongProduct(
  work: PeerCase,
  values: readonly Float32Array[],
  got: Float32Array,
): string | null {
  if (!got.every(Number.isFinite)) return "the result is not finite";
  if (work.kind !== "gemm") return null;
  const [a, b] = values as [Float32Array, Float32Array];
  const [shapeA, shapeB] = work.inputs.map(({ shape }) => shape) as [number[], number[]];
  const [M, K] = work.layout === "TN" ? [shapeA[1]!, shapeA[0]!] : [shapeA[0]!, shapeA[1]!];
  const N = work.layout === "NT" ? shapeB[0]! : shapeB[1]!;
  for (let s = 0; s < SAMPLES; s++) {
    const [m, n] = [(s * 7919) % M, (s * 104729) % N];
    let sum = 0;
    for (let k = 0; k < K; k++) {
      sum +=
        a[work.layout === "TN" ? k * M + m : m * K + k]! *
        b[work.layout === "NT" ? n * K + k : k * N + n]!;
    }
    const error = Math.abs(got[m * N + n]! - sum);
    if (error > work.tolerance * Math.sqrt(K))
      return `y[${m}, ${n}] should be ${sum}, is ${got[m * N + n]}`;
  }
  return null;
}

/** Says how far a result is from ours, or null where it is near enough. */
export function difference(
  ours: Float32Array,
  got: Float32Array,
  tolerance: number,
): string | null {
  if (got.length !== ours.length) return `${got.length} results instead of ${ours.length}`;
  let [squares, worst] = [0, 0];
  for (let i = 0; i < ours.length; i++) {
    squares += ours[i]! ** 2;
    const error = Math.abs(got[i]! - ours[i]!);
    if (Number.isNaN(error)) return "wrong numbers: some are none";
    worst = Math.max(worst, error);
  }
  const share = worst / Math.sqrt(squares / ours.length);
  return share <= tolerance
    ? null
    : `wrong numbers: off by ${share.toExponential(1)} of their size`;
}
