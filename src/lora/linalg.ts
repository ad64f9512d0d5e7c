// Small dense factorisations in float64: QR, SVD, and the leading part of an SVD by random projection.
// A matrix is a list of its columns, each in memory of its own: what these methods walk along.
import { nextKeyWords, philox4x32 } from "../tensor/philox.ts";

export type Columns = Float64Array[];

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** y += factor·x. */
function addTo(y: Float64Array, x: Float64Array, factor: number): void {
  for (let i = 0; i < y.length; i++) y[i]! += factor * x[i]!;
}

/** The columns of a row-major matrix [rows, columns]. */
export function columnsOf(values: ArrayLike<number>, rows: number, columns: number): Columns {
  return Array.from({ length: columns }, (_, j) =>
    Float64Array.from({ length: rows }, (_, i) => values[i * columns + j]!),
  );
}

/** The columns of the transpose of a row-major matrix [rows, columns]: its rows. */
export function rowsOf(values: ArrayLike<number>, rows: number, columns: number): Columns {
  return Array.from({ length: rows }, (_, i) =>
    Float64Array.from({ length: columns }, (_, j) => values[i * columns + j]!),
  );
}

export function transposed(M: Columns): Columns {
  const rows = M[0]?.length ?? 0;
  return Array.from({ length: rows }, (_, i) => Float64Array.from(M, (column) => column[i]!));
}

/** M·N. */
export function product(M: Columns, N: Columns): Columns {
  return N.map((n) => {
    const y = new Float64Array(M[0]?.length ?? 0);
    for (let k = 0; k < M.length; k++) addTo(y, M[k]!, n[k]!);
    return y;
  });
}

/** Mᵀ·N. */
function transposedProduct(M: Columns, N: Columns): Columns {
  return N.map((n) => Float64Array.from(M, (m) => dot(m, n)));
}

/**
 * M = Q·R by Householder's reflections; of k = min(rows, columns) columns Q, R is [k, columns].
 * @see Golub & Van Loan, Matrix Computations, 5.2
 */
export function qr(M: Columns): { Q: Columns; R: Columns } {
  const work = M.map((column) => column.slice());
  const rows = work[0]?.length ?? 0;
  const k = Math.min(rows, work.length);
  const mirrors: Float64Array[] = [];
  for (let j = 0; j < k; j++) {
    const v = mirrorOf(work[j]!, j);
    mirrors.push(v);
    for (let c = j; c < work.length; c++) reflect(work[c]!, v, j);
  }
  const Q = Array.from({ length: k }, (_, j) => {
    const q = new Float64Array(rows);
    q[j] = 1;
    for (let i = k - 1; i >= 0; i--) reflect(q, mirrors[i]!, i);
    return q;
  });
  const R = work.map((column) => column.slice(0, k));
  for (let c = 0; c < k; c++) R[c]!.fill(0, c + 1);
  return { Q, R };
}

/** The unit normal of the mirror that takes x, from entry j on, to a multiple of its first axis. */
function mirrorOf(x: Float64Array, j: number): Float64Array {
  const v = x.slice(j);
  const norm = Math.sqrt(dot(v, v));
  v[0]! += v[0]! < 0 ? -norm : norm;
  const length = Math.sqrt(dot(v, v));
  if (length > 0) for (let i = 0; i < v.length; i++) v[i]! /= length;
  return v;
}

function reflect(x: Float64Array, v: Float64Array, j: number): void {
  let sum = 0;
  for (let i = 0; i < v.length; i++) sum += v[i]! * x[j + i]!;
  for (let i = 0; i < v.length; i++) x[j + i]! -= 2 * sum * v[i]!;
}

export interface Svd {
  /** Orthonormal columns. */
  U: Columns;
  /** Singular values, falling. */
  S: Float64Array;
  V: Columns;
}

const MOST_SWEEPS = 40;

/**
 * The thin M = U·diag(S)·Vᵀ by Jacobi's rotations of pairs of columns, of the triangular factor first.
 * Small singular values come out as precisely as large ones; n³ work, a few seconds for n = 500.
 * @see Demmel & Veselić 1992, "Jacobi's method is more accurate than QR"
 */
export function svd(M: Columns): Svd {
  const rows = M[0]?.length ?? 0;
  if (rows < M.length) {
    const { U, S, V } = svd(transposed(M));
    return { U: V, S, V: U };
  }
  const { Q, R } = qr(M);
  const n = M.length;
  // Rᵀ = W·diag(S)·Zᵀ, so that M = Q·Z·diag(S)·Wᵀ. Columns of R's transpose are nearer to orthogonal.
  const W = transposed(R);
  const Z: Columns = Array.from({ length: n }, (_, j) => {
    const e = new Float64Array(n);
    e[j] = 1;
    return e;
  });
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) if (!rotateAll(W, Z)) break;
  return sorted(Q, W, Z);
}

/** One rotation for each pair of columns that is not orthogonal yet. Whether there was one. */
function rotateAll(W: Columns, Z: Columns): boolean {
  let rotated = false;
  const squares = Float64Array.from(W, (w) => dot(w, w));
  for (let i = 0; i < W.length - 1; i++) {
    for (let j = i + 1; j < W.length; j++) {
      const pq = dot(W[i]!, W[j]!);
      const [pp, qq] = [squares[i]!, squares[j]!];
      if (pq === 0 || Math.abs(pq) <= 2 ** -52 * Math.sqrt(pp * qq)) continue;
      rotated = true;
      const zeta = (qq - pp) / (2 * pq);
      const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
      const c = 1 / Math.hypot(1, t);
      rotate(W[i]!, W[j]!, c, c * t);
      rotate(Z[i]!, Z[j]!, c, c * t);
      squares[i] = pp - t * pq;
      squares[j] = qq + t * pq;
      // Where subtraction cost digits, the length is measured again.
      if (squares[i]! < 0.1 * pp) squares[i] = dot(W[i]!, W[i]!);
      if (squares[j]! < 0.1 * qq) squares[j] = dot(W[j]!, W[j]!);
    }
  }
  return rotated;
}

function rotate(p: Float64Array, q: Float64Array, c: number, s: number): void {
  for (let k = 0; k < p.length; k++) {
    const [x, y] = [p[k]!, q[k]!];
    p[k] = c * x - s * y;
    q[k] = s * x + c * y;
  }
}

function sorted(Q: Columns, W: Columns, Z: Columns): Svd {
  const norms = W.map((w) => Math.sqrt(dot(w, w)));
  const order = norms.map((_, i) => i).sort((a, b) => norms[b]! - norms[a]!);
  const V = order.map((i) => W[i]!.map((v) => (norms[i]! > 0 ? v / norms[i]! : 0)));
  fillUp(V);
  return {
    U: product(
      Q,
      order.map((i) => Z[i]!),
    ),
    S: Float64Array.from(order, (i) => norms[i]!),
    V,
  };
}

/** Gives columns that are zero, for singular values of 0, any directions that are left. */
function fillUp(V: Columns): void {
  for (const [j, v] of V.entries()) {
    if (dot(v, v) > 0.5) continue;
    for (let axis = 0; axis < v.length && dot(v, v) <= 0.25; axis++) {
      v.fill(0);
      v[axis] = 1;
      for (let twice = 0; twice < 2; twice++) {
        for (const [i, other] of V.entries()) if (i !== j) addTo(v, other, -dot(other, v));
      }
    }
    const norm = Math.sqrt(dot(v, v));
    for (let i = 0; i < v.length; i++) v[i]! /= norm;
  }
}

/** How many more directions are tried than are wanted. */
const OVERSAMPLING = 8;

/**
 * The leading r singular triplets, by projection on a random subspace that `iterations` products with
 * M·Mᵀ turn towards them.
 * @see Halko, Martinsson & Tropp 2011, arXiv 0909.4061, algorithm 4.4
 */
export function leadingSvd(M: Columns, r: number, iterations: number): Svd {
  const rows = M[0]?.length ?? 0;
  const count = Math.min(r + OVERSAMPLING, rows, M.length);
  let { Q } = qr(product(M, gaussian(M.length, count)));
  for (let i = 0; i < iterations; i++) {
    const { Q: P } = qr(transposedProduct(M, Q));
    Q = qr(product(M, P)).Q;
  }
  const { U, S, V } = svd(transposedProduct(Q, M)); // Qᵀ·M, [count, columns]
  return { U: product(Q, U).slice(0, r), S: S.slice(0, r), V: V.slice(0, r) };
}

/** Normal numbers from `manualSeed`'s stream. */
function gaussian(rows: number, columns: number): Columns {
  const key = nextKeyWords();
  return Array.from({ length: columns }, (_, j) =>
    Float64Array.from({ length: rows }, (_, i) => {
      const [a, b] = philox4x32([i, j, 0, 0], key);
      return (
        Math.sqrt(-2 * Math.log((a + 1) / (2 ** 32 + 1))) * Math.cos((2 * Math.PI * b) / 2 ** 32)
      );
    }),
  );
}
