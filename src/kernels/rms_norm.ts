// RMS norm: checks, outputs, dispatches. x, y: [..., D], weight: [D]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { foldForward } from "./reduce.ts";

const kernel = ownKernel("rms_norm");

/** y, and r = 1/√(mean(x²) + eps) of every row, which backward needs. */
export function rmsNormForward(x: Tensor, weight: Tensor, eps: number): { y: Tensor; r: Tensor } {
  checkDType("rms_norm", "x", x, "f32");
  checkDType("rms_norm", "weight", weight, "f32");
  checkRank("rms_norm", "x", x, 1, "[..., D]", true);
  const D = x.shape[x.rank - 1]!;
  checkShapeIs("rms_norm", "weight", weight, [D], "[D]");
  const rows = D === 0 ? 0 : x.size / D;
  const r = Tensor.empty("rms_norm_scale", [rows], "f32");
  kernel.run("rms_norm_scale", {
    tensors: { x, y: r },
    params: { n: rows, D, eps },
    groups: grid(Math.ceil(rows / 16)),
  });
  const y = Tensor.empty("rms_norm_forward", x.shape, "f32");
  kernel.run("rms_norm_forward", {
    tensors: { x, weight, r, y },
    params: { n: x.size, D, eps },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return { y, r };
}

export function rmsNormBackward(dy: Tensor, x: Tensor, weight: Tensor, r: Tensor): Tensor {
  checkShapeIs("rms_norm_backward", "dy", dy, x.shape);
  const [rows, D, eps] = [r.size, weight.size, 0];
  const dot = Tensor.empty("rms_norm_dot", [rows], "f32");
  kernel.run("rms_norm_dot", {
    tensors: { x, weight, dy, y: dot },
    params: { n: rows, D, eps },
    groups: grid(Math.ceil(rows / 16)),
  });
  const dx = Tensor.empty("rms_norm_backward", x.shape, "f32");
  kernel.run("rms_norm_backward", {
    tensors: { x, weight, dy, r, dot, dx },
    params: { n: x.size, D, eps },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return dx;
}

/** dweight [D]: every row's part, then their sum. */
export function rmsNormBackwardWeight(dy: Tensor, x: Tensor, D: number, r: Tensor): Tensor {
  const parts = Tensor.empty("rms_norm_backward_weight", [r.size, D], "f32");
  kernel.run("rms_norm_backward_weight", {
    tensors: { x, dy, r, dweight: parts },
    params: { n: x.size, D, eps: 0 },
    groups: grid(Math.ceil(x.size / 64)),
  });
  const fold = { outer: 1, R: r.size, inner: D };
  return foldForward("rms_norm_backward_weight", "sum", parts, fold, [D]);
}
