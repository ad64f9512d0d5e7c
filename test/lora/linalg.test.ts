import { test } from "uvu";
import { ok } from "uvu/assert";
import {
  type Columns,
  columnsOf,
  dot,
  leadingSvd,
  product,
  qr,
  rowsOf,
  svd,
  transposed,
} from "../../src/lora/linalg.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { randomValues } from "../gpu.ts";

const SHAPES = [[1, 1], [1, 5], [5, 1], [4, 4], [7, 3], [3, 7], [20, 33], [33, 20], [48, 48]] as const; // biome-ignore format: one line
const random = (rows: number, columns: number, seed = 1): Columns =>
  columnsOf(randomValues(rows * columns, seed), rows, columns);

function largest(a: Columns, b: Columns): number {
  let most = 0;
  for (const [j, column] of a.entries()) column.forEach((v, i) => { most = Math.max(most, Math.abs(v - b[j]![i]!)); }); // biome-ignore format: one line
  return most;
}

function orthonormal(Q: Columns, what: string): void {
  for (const [i, q] of Q.entries()) {
    for (const [j, p] of Q.entries()) {
      const expected = Number(i === j);
      ok(Math.abs(dot(q, p) - expected) < 1e-13, `${what}: columns ${i} and ${j}: ${dot(q, p)}`);
    }
  }
}

const diagonal = (S: Float64Array): Columns =>
  Array.from(S, (s, j) => Float64Array.from(S, (_, i) => (i === j ? s : 0)));

for (const [rows, columns] of SHAPES) {
  test(`QR of [${rows}, ${columns}]`, () => {
    const M = random(rows, columns);
    const { Q, R } = qr(M);
    orthonormal(Q, "Q");
    ok(largest(product(Q, R), M) < 1e-14 * (rows + columns));
    for (const [j, r] of R.entries())
      ok(
        r.every((v, i) => i <= j || v === 0),
        "R is upper triangular",
      );
  });

  test(`SVD of [${rows}, ${columns}]`, () => {
    const M = random(rows, columns, 2);
    const { U, S, V } = svd(M);
    orthonormal(U, "U");
    orthonormal(V, "V");
    ok(
      S.every((s, i) => s >= 0 && (i === 0 || s <= S[i - 1]!)),
      "falling",
    );
    ok(
      largest(product(product(U, diagonal(S)), transposed(V)), M) <
        1e-13 * Math.sqrt(rows + columns),
    );
  });
}

test("SVD: known values, equal ones, and a matrix without full rank", () => {
  const { S, U, V } = svd(columnsOf([3, 0, 4, 5], 2, 2)); // 45 and 5 are the eigenvalues of MᵀM
  ok(Math.abs(S[0]! - Math.sqrt(45)) < 1e-14 && Math.abs(S[1]! - Math.sqrt(5)) < 1e-14);
  orthonormal(U, "U");
  orthonormal(V, "V");
  const identity = svd(columnsOf([1, 0, 0, 0, 1, 0, 0, 0, 1], 3, 3));
  ok(identity.S.every((s) => s === 1));
  const low = product(random(12, 2), random(2, 9, 3));
  const found = svd(low);
  ok(found.S[1]! > 0.1 && found.S[2]! < 1e-14, `${found.S}`);
  orthonormal(found.U, "U of rank 2");
  orthonormal(found.V, "V of rank 2");
  const zero = svd(columnsOf(new Float64Array(6), 3, 2));
  ok(zero.S.every((s) => s === 0));
  orthonormal(zero.U, "U of 0");
  orthonormal(zero.V, "V of 0");
});

test("SVD: small singular values are as precise as large ones", () => {
  const values = Float64Array.from({ length: 8 }, (_, i) => 10 ** -i);
  const [U, V] = [qr(random(20, 8, 4)).Q, qr(random(8, 8, 5)).Q];
  // Columns of very different lengths, which Jacobi's method does not mind.
  const M = product(U, diagonal(values));
  const { S } = svd(M);
  for (const [i, s] of S.entries())
    ok(Math.abs(s / values[i]! - 1) < 1e-13, `${s} for ${values[i]}`);
  const turned = svd(product(M, transposed(V))).S;
  for (const [i, s] of turned.entries())
    ok(Math.abs(s - values[i]!) < 1e-15, `${s} for ${values[i]}`);
});

test("the leading part by random projection", () => {
  manualSeed(1);
  const [rows, columns, r] = [60, 45, 4];
  const [U, V] = [qr(random(rows, columns, 6)).Q, qr(random(columns, columns, 7)).Q];
  const M = product(product(U, diagonal(Float64Array.from(V, (_, i) => 0.8 ** i))), transposed(V));
  for (const matrix of [M, transposed(M)]) {
    const exact = svd(matrix);
    const { U, S, V } = leadingSvd(matrix, r, 16);
    orthonormal(U, "U");
    orthonormal(V, "V");
    for (const [i, s] of S.entries())
      ok(Math.abs(s - exact.S[i]!) < 1e-6, `${s} for ${exact.S[i]}`);
    const rough = leadingSvd(matrix, r, 0);
    for (const [i, s] of rough.S.entries()) ok(Math.abs(s - exact.S[i]!) < 0.3 * exact.S[i]!);
  }
});

test("rows and columns of row-major numbers", () => {
  const values = [1, 2, 3, 4, 5, 6];
  ok(largest(columnsOf(values, 2, 3), [[1, 4], [2, 5], [3, 6]].map((c) => Float64Array.from(c))) === 0); // biome-ignore format: one line
  ok(largest(rowsOf(values, 2, 3), transposed(columnsOf(values, 2, 3))) === 0);
});

test.run();
