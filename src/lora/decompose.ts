// PiSSA and OLoRA: the main part of the weights moves from the base into A and B, where it is trained.
//   PiSSA:  W = U·diag(S)·Vᵀ,  A = √(S_r/s)·V_rᵀ,  B = U_r·√(S_r/s)   (Meng et al. 2024, arXiv 2404.02948)
//   OLoRA:  W = Q·R,           A = R's first r rows, B = Q's first r columns  (Büyükakyüz 2024, arXiv 2406.01775)
//   The base keeps W − s·B·A, so that the layer computes what it computed before.
import { loraMergeInto } from "../kernels/lora_merge.ts";
import { copyStorage } from "../nn/optim/arena.ts";
import { tensor } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import type { LoraInit } from "./config.ts";
import { type Columns, columnsOf, leadingSvd, qr, rowsOf, svd } from "./linalg.ts";
import type { LoraLayer } from "./lora_layer.ts";
import type { LoraWeights } from "./lora_weights.ts";

/** Whether a way to start takes something out of the base. */
export function decomposes(init: LoraInit): init is "olora" | "pissa" | `pissa_niter_${number}` {
  return typeof init === "string" && init !== "gaussian";
}

/** Columns of A [r, in], and of B [out, r]. */
function factors(W: Columns, r: number, s: number, init: LoraInit): { A: Columns; B: Columns } {
  if (init === "olora") {
    const { Q, R } = qr(W);
    return { A: R.map((column) => column.slice(0, r)), B: Q.slice(0, r) };
  }
  const rounds = `${init}`.match(/^pissa_niter_(\d+)$/)?.[1];
  const { U, S, V } = rounds === undefined ? svd(W) : leadingSvd(W, r, Number(rounds));
  const root = Float64Array.from(S, (sigma) => Math.sqrt(sigma / s));
  const B = U.slice(0, r).map((u, j) => u.map((v) => v * root[j]!));
  const A = W.map((_, i) => Float64Array.from({ length: r }, (_, j) => root[j]! * V[j]![i]!));
  return { A, B };
}

/** Moves the main part of a layer's base into an update. */
export async function decompose(
  layer: LoraLayer,
  update: LoraWeights,
  init: LoraInit,
): Promise<void> {
  const { weight, transposed, sizes } = layer;
  const { r, scaling } = update;
  const values = await weight.data();
  using _ = scope();
  const W = transposed
    ? rowsOf(values, sizes.in, sizes.out)
    : columnsOf(values, sizes.out, sizes.in);
  const { A: aColumns, B: bColumns } = factors(W, r, scaling, init);
  const A = tensor(rowMajor(aColumns, r), [r, sizes.in]);
  const B = tensor(rowMajor(bColumns, sizes.out), [sizes.out, r]);
  copyStorage(A.storage, update.lora_A.storage, A.bytes);
  copyStorage(B.storage, update.lora_B.storage, B.bytes);
  update.start = { A, B };
  // Of the rounded A and B, so that nothing is lost between them and the base.
  loraMergeInto(weight, A, B, -scaling, { transposed });
}

function rowMajor(columns: Columns, rows: number): Float32Array {
  const values = new Float32Array(rows * columns.length);
  for (const [j, column] of columns.entries()) {
    for (let i = 0; i < rows; i++) values[i * columns.length + j] = column[i]!;
  }
  return values;
}
