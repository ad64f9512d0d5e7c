// Layer norm: checks, outputs, dispatches. x, residual, h, y: [..., D], weight, bias: [D], stats: [rows, 2]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { ownKernel } from "./kernel.ts";
import { foldForward } from "./reduce.ts";
import { shareColumns, shareRows } from "./rows.ts";

const kernel = ownKernel("layer_norm");
/** How often the kernels walk along a row. */
const PASSES = 3;

function check(op: string, x: Tensor, weight: Tensor, bias: Tensor): void {
  checkDType(op, "x", x, "f32");
  checkDType(op, "weight", weight, "f32");
  checkDType(op, "bias", bias, "f32");
  checkRank(op, "x", x, 1, "[..., D]", true);
  checkShapeIs(op, "weight", weight, x.shape.slice(-1), "[D]");
  checkShapeIs(op, "bias", bias, x.shape.slice(-1), "[D]");
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

/** y, and mean and 1/deviation of every row, which backward needs. */
export function layerNormForward(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps: number,
): { y: Tensor; stats: Tensor } {
  check("layer_norm", x, weight, bias);
  const { rows, launch } = plan("layer_norm", x, eps);
  const y = Tensor.empty("layer_norm_forward", x.shape, "f32");
  const stats = Tensor.empty("layer_norm_forward", [rows, 2], "f32");
  kernel.run("layer_norm_forward", { tensors: { x, weight, bias, y, stats }, ...launch });
  return { y, stats };
}

/** h = x + residual, its norm y, and the statistics of h. */
export function layerNormAddForward(
  x: Tensor,
  residual: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps: number,
): { h: Tensor; y: Tensor; stats: Tensor } {
  const op = "layer_norm_add";
  check(op, x, weight, bias);
  checkDType(op, "residual", residual, "f32");
  checkShapeIs(op, "residual", residual, x.shape);
  const { rows, launch } = plan(op, x, eps);
  const h = Tensor.empty("layer_norm_add_forward", x.shape, "f32");
  const y = Tensor.empty("layer_norm_add_forward", x.shape, "f32");
  const stats = Tensor.empty("layer_norm_add_forward", [rows, 2], "f32");
  const tensors = { x, residual, weight, bias, h, y, stats };
  kernel.run("layer_norm_add_forward", { tensors, ...launch });
  return { h, y, stats };
}

/** dx, plus `dh` where x has a gradient from elsewhere. */
export function layerNormBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  stats: Tensor,
  dh: Tensor | null = null,
): Tensor {
  const op = dh ? "layer_norm_add_backward" : "layer_norm_backward";
  checkShapeIs(op, "dy", dy, x.shape);
  const { launch } = plan(op, x, 0);
  const dx = Tensor.empty(op, x.shape, "f32");
  const tensors = { x, weight, dy, stats_in: stats, ...(dh ? { dh } : {}), dx };
  kernel.run(op, { tensors, ...launch });
  return dx;
}

/** dweight and dbias, [D] each: blocks of rows, then their sums. */
export function layerNormBackwardWeight(
  dy: Tensor,
  x: Tensor,
  stats: Tensor,
): { dweight: Tensor; dbias: Tensor } {
  const op = "layer_norm_backward_weight";
  const D = x.shape[x.rank - 1]!;
  const rows = rowsIn(x, D);
  const { width, defines: row } = shareRows(op, rows, D, PASSES);
  const { defines, block, blocks, groups } = shareColumns(op, rows, D / width);
  const [dweight, dbias] = [1, 2].map(() => Tensor.empty(op, [blocks, D], "f32"));
  kernel.run(op, {
    tensors: { x, dy, stats_in: stats, dweight: dweight!, dbias: dbias! },
    params: { rows, n: D / width, eps: 0, block },
    defines: { V: row.V, WIDTH: width, ...defines },
    groups,
  });
  const sum = (parts: Tensor) =>
    foldForward(op, "sum", parts, { outer: 1, R: blocks, inner: D }, [D]);
  return { dweight: sum(dweight!), dbias: sum(dbias!) };
}
