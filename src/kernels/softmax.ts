// Softmax: checks, output, dispatch. x, y: [...]
import { normalizeAxis, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";
import { ownKernel } from "./kernel.ts";
import { shareRows } from "./rows.ts";

const kernel = ownKernel("softmax");

/** Forward walks along a row so often; backward once less. */
const PASSES = 3;

/** What a launch needs besides its tensors, checked. */
function plan(op: string, x: Tensor, at: number, log: boolean) {
  const n = x.shape[at]!;
  const inner = sizeOf(x.shape.slice(at + 1));
  const rows = n === 0 ? 0 : x.size / n;
  const { width, defines, groups } = shareRows(op, rows, n, PASSES, inner);
  const params = { rows, n: n / width, inner };
  return { params, constants: { LOG: Number(log) }, defines, groups };
}

export function softmaxForward(x: Tensor, axis: number, log: boolean): Tensor {
  const op = log ? "log_softmax" : "softmax";
  checkDType(op, "x", x, "f32");
  const launch = plan(op, x, normalizeAxis(op, axis, x.rank), log);
  const y = Tensor.empty("softmax_forward", x.shape, "f32");
  kernel.run("softmax_forward", { tensors: { x, y }, ...launch });
  return y;
}

/** dx from dy and the result y. */
export function softmaxBackward(dy: Tensor, y: Tensor, axis: number, log: boolean): Tensor {
  const launch = plan("softmax_backward", y, normalizeAxis("softmax", axis, y.rank), log);
  const dx = Tensor.empty("softmax_backward", y.shape, "f32");
  kernel.run("softmax_backward", { tensors: { x: y, dy, dx }, ...launch });
  return dx;
}
