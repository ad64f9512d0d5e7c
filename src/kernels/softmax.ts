// Softmax: checks, output, dispatch. x, y: [...]
import { LimitError } from "../gpu/errors.ts";
import { normalizeAxis, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("softmax");

/** lavapipe ends an invocation's loops after 65,535 iterations; forward makes three passes. */
const LONGEST_ROW = 21_000;

function launch(
  entry: string,
  tensors: Record<string, Tensor>,
  x: Tensor,
  at: number,
  log: boolean,
) {
  const n = x.shape[at]!;
  const inner = sizeOf(x.shape.slice(at + 1));
  const rows = n === 0 ? 0 : x.size / n;
  kernel.run(entry, {
    tensors,
    params: { rows, n, inner },
    constants: { LOG: Number(log) },
    groups: grid(Math.ceil(rows / 16)),
  });
}

export function softmaxForward(x: Tensor, axis: number, log: boolean): Tensor {
  const op = log ? "log_softmax" : "softmax";
  checkDType(op, "x", x, "f32");
  const at = normalizeAxis(op, axis, x.rank);
  if (x.shape[at]! > LONGEST_ROW) {
    const expected = `at most ${LONGEST_ROW} long along the axis`;
    throw new LimitError({ op, arg: "x", expected, got: `${x.shape[at]}` });
  }
  const y = Tensor.empty("softmax_forward", x.shape, "f32");
  launch("softmax_forward", { x, y }, x, at, log);
  return y;
}

/** dx from dy and the result y. */
export function softmaxBackward(dy: Tensor, y: Tensor, axis: number, log: boolean): Tensor {
  const dx = Tensor.empty("softmax_backward", y.shape, "f32");
  launch("softmax_backward", { x: y, dy, dx }, y, normalizeAxis("softmax", axis, y.rank), log);
  return dx;
}
