// Layer norm: checks, outputs, dispatches. x, y: [..., D], weight, bias: [D], stats: [rows, 2]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { foldForward } from "./reduce.ts";

const kernel = ownKernel("layer_norm");

/** y, and mean and 1/deviation of every row, which backward needs. */
export function layerNormForward(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps: number,
): { y: Tensor; stats: Tensor } {
  const op = "layer_norm";
  checkDType(op, "x", x, "f32");
  checkDType(op, "weight", weight, "f32");
  checkDType(op, "bias", bias, "f32");
  checkRank(op, "x", x, 1, "[..., D]", true);
  const D = x.shape[x.rank - 1]!;
  checkShapeIs(op, "weight", weight, [D], "[D]");
  checkShapeIs(op, "bias", bias, [D], "[D]");
  const rows = D === 0 ? 0 : x.size / D;
  const stats = Tensor.empty("layer_norm_stats", [rows, 2], "f32");
  kernel.run("layer_norm_stats", {
    tensors: { x, folded: stats },
    params: { n: rows, D, eps },
    groups: grid(Math.ceil(rows / 16)),
  });
  const y = Tensor.empty("layer_norm_forward", x.shape, "f32");
  kernel.run("layer_norm_forward", {
    tensors: { x, weight, bias, stats, y },
    params: { n: x.size, D, eps },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return { y, stats };
}

export function layerNormBackward(dy: Tensor, x: Tensor, weight: Tensor, stats: Tensor): Tensor {
  checkShapeIs("layer_norm_backward", "dy", dy, x.shape);
  const [rows, D, eps] = [stats.shape[0]!, weight.size, 0];
  const means = Tensor.empty("layer_norm_means", [rows, 2], "f32");
  kernel.run("layer_norm_means", {
    tensors: { x, weight, dy, stats, folded: means },
    params: { n: rows, D, eps },
    groups: grid(Math.ceil(rows / 16)),
  });
  const dx = Tensor.empty("layer_norm_backward", x.shape, "f32");
  kernel.run("layer_norm_backward", {
    tensors: { x, weight, dy, stats, means, dx },
    params: { n: x.size, D, eps },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return dx;
}

/** dweight [D]: every row's part, then their sum. */
export function layerNormBackwardWeight(dy: Tensor, x: Tensor, D: number, stats: Tensor): Tensor {
  const rows = stats.shape[0]!;
  const parts = Tensor.empty("layer_norm_backward_weight", [rows, D], "f32");
  kernel.run("layer_norm_backward_weight", {
    tensors: { x, dy, stats, dweight: parts },
    params: { n: x.size, D, eps: 0 },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return columnSum(parts, rows, D);
}

/** dbias [D] = Σ_rows dy. */
export function layerNormBackwardBias(dy: Tensor, D: number): Tensor {
  return columnSum(dy, D === 0 ? 0 : dy.size / D, D);
}

function columnSum(parts: Tensor, R: number, inner: number): Tensor {
  return foldForward("layer_norm_backward", "sum", parts, { outer: 1, R, inner }, [inner]);
}
