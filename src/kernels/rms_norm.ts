// RMS norm: checks, outputs, dispatches. x, residual, h, y: [..., D], weight: [D], r: [rows]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { ownKernel } from "./kernel.ts";
import { foldForward } from "./reduce.ts";
import { shareColumns, shareRows } from "./rows.ts";

const kernel = ownKernel("rms_norm");
/** How often the kernels walk along a row. */
const PASSES = 2;

function check(op: string, x: Tensor, weight: Tensor): void {
  checkDType(op, "x", x, "f32");
  checkDType(op, "weight", weight, "f32");
  checkRank(op, "x", x, 1, "[..., D]", true);
  checkShapeIs(op, "weight", weight, x.shape.slice(-1), "[D]");
}

function rowsIn(x: Tensor, D: number): number {
  return D === 0 ? 0 : x.size / D;
}

/** What every launch over rows of x needs besides its tensors. */
function plan(op: string, x: Tensor, eps: number) {
  const D = x.shape[x.rank - 1]!;
  const rows = rowsIn(x, D);
  const { width, defines, groups } = shareRows(op, rows, D, PASSES);
  return { rows, launch: { params: { rows, n: D / width, eps, block: 0 }, defines, groups } };
}

/** y, and r = 1/√(mean(x²) + eps) of every row, which backward needs. */
export function rmsNormForward(x: Tensor, weight: Tensor, eps: number): { y: Tensor; r: Tensor } {
  check("rms_norm", x, weight);
  const { rows, launch } = plan("rms_norm", x, eps);
  const y = Tensor.empty("rms_norm_forward", x.shape, "f32");
  const r = Tensor.empty("rms_norm_forward", [rows], "f32");
  kernel.run("rms_norm_forward", { tensors: { x, weight, y, r }, ...launch });
  return { y, r };
}

/** h = x + residual, its norm y, and r of every row. */
export function rmsNormAddForward(
  x: Tensor,
  residual: Tensor,
  weight: Tensor,
  eps: number,
): { h: Tensor; y: Tensor; r: Tensor } {
  check("rms_norm_add", x, weight);
  checkDType("rms_norm_add", "residual", residual, "f32");
  checkShapeIs("rms_norm_add", "residual", residual, x.shape);
  const { rows, launch } = plan("rms_norm_add", x, eps);
  const h = Tensor.empty("rms_norm_add_forward", x.shape, "f32");
  const y = Tensor.empty("rms_norm_add_forward", x.shape, "f32");
  const r = Tensor.empty("rms_norm_add_forward", [rows], "f32");
  kernel.run("rms_norm_add_forward", { tensors: { x, residual, weight, h, y, r }, ...launch });
  return { h, y, r };
}

/** dx, plus `dh` where x has a gradient from elsewhere. */
export function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  r: Tensor,
  dh: Tensor | null = null,
): Tensor {
  const op = dh ? "rms_norm_add_backward" : "rms_norm_backward";
  checkShapeIs(op, "dy", dy, x.shape);
  const { launch } = plan(op, x, 0);
  const dx = Tensor.empty(op, x.shape, "f32");
  kernel.run(op, { tensors: { x, weight, dy, r_in: r, ...(dh ? { dh } : {}), dx }, ...launch });
  return dx;
}

/** dweight [D]: blocks of rows, then their sum. */
export function rmsNormBackwardWeight(dy: Tensor, x: Tensor, r: Tensor): Tensor {
  const op = "rms_norm_backward_weight";
  const D = x.shape[x.rank - 1]!;
  const rows = rowsIn(x, D);
  const { width, defines: row } = shareRows(op, rows, D, PASSES);
  const { defines, block, blocks, groups } = shareColumns(op, rows, D / width);
  const parts = Tensor.empty(op, [blocks, D], "f32");
  kernel.run(op, {
    tensors: { x, dy, r_in: r, dweight: parts },
    params: { rows, n: D / width, eps: 0, block },
    defines: { V: row.V, WIDTH: width, ...defines },
    groups,
  });
  return foldForward(op, "sum", parts, { outer: 1, R: blocks, inner: D }, [D]);
}
