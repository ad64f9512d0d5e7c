// Batched product of the last two axes: y[…, i, j] = Σ_k a[…, i, k]·b[…, k, j].
import { type Array64, broadcast, type Numbers, ravel, sizeOf, unravel } from "./arrays.ts";

export interface Transposes {
  transposeA?: boolean;
  transposeB?: boolean;
}

/** Sizes, and where the elements of a, b and y lie for batch n, row i, column j, term k. */
function layout(aShape: readonly number[], bShape: readonly number[], t: Transposes) {
  const [aRows, aColumns] = aShape.slice(-2) as [number, number];
  const [bRows, bColumns] = bShape.slice(-2) as [number, number];
  const [M, K] = t.transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [K2, N] = t.transposeB ? [bColumns, bRows] : [bRows, bColumns];
  if (K !== K2) throw new Error(`matmul reference: inner sizes ${K} and ${K2} differ`);
  const aBatch = aShape.slice(0, -2);
  const bBatch = bShape.slice(0, -2);
  const batch = broadcast(aBatch, bBatch);
  return {
    M,
    N,
    K,
    batch,
    aAt: (n: number, i: number, k: number) =>
      ravel(unravel(n, batch), aBatch) * M * K + (t.transposeA ? k * M + i : i * K + k),
    bAt: (n: number, k: number, j: number) =>
      ravel(unravel(n, batch), bBatch) * K * N + (t.transposeB ? j * K + k : k * N + j),
  };
}

export function matmul(
  a: Numbers,
  aShape: readonly number[],
  b: Numbers,
  bShape: readonly number[],
  transposes: Transposes = {},
): Array64 {
  const { M, N, K, batch, aAt, bAt } = layout(aShape, bShape, transposes);
  const data = new Float64Array(sizeOf(batch) * M * N);
  for (let n = 0, at = 0; n < sizeOf(batch); n++) {
    for (let i = 0; i < M; i++) {
      for (let j = 0; j < N; j++, at++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += a[aAt(n, i, k)]! * b[bAt(n, k, j)]!;
        data[at] = sum;
      }
    }
  }
  return { data, shape: [...batch, M, N] };
}

/** Gradients of a and b; repeated batch axes are summed. */
export function matmulBackward(
  dy: Numbers,
  a: Numbers,
  aShape: readonly number[],
  b: Numbers,
  bShape: readonly number[],
  transposes: Transposes = {},
): [Float64Array, Float64Array] {
  const { M, N, K, batch, aAt, bAt } = layout(aShape, bShape, transposes);
  const da = new Float64Array(a.length);
  const db = new Float64Array(b.length);
  for (let n = 0, at = 0; n < sizeOf(batch); n++) {
    for (let i = 0; i < M; i++) {
      for (let j = 0; j < N; j++, at++) {
        for (let k = 0; k < K; k++) {
          da[aAt(n, i, k)]! += dy[at]! * b[bAt(n, k, j)]!;
          db[bAt(n, k, j)]! += dy[at]! * a[aAt(n, i, k)]!;
        }
      }
    }
  }
  return [da, db];
}
