import { softmaxBackward, softmaxForward } from "../../kernels/softmax.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const rule = (name: string, log: boolean) =>
  op(name, {
    forward: (x: Tensor, axis: number) => {
      const y = softmaxForward(x, axis, log);
      return [y, { y, axis }];
    },
    backward: (dy, { y, axis }) => [softmaxBackward(dy, y, axis, log)],
  });

const softmaxRule = rule("softmax", false);
const logSoftmaxRule = rule("log_softmax", true);

/**
 * exp(x) / Σ exp(x) along an axis, computed from x − max.
 * @param x  [...] of f32, at least one axis
 * @param axis  default the last
 * @throws DTypeError, ValueError, LimitError for rows above 5,000,000 on lavapipe
 */
export function softmax(x: Tensor, axis = -1): Tensor {
  return softmaxRule(x, axis);
}

/**
 * x − log Σ exp(x) along an axis, computed from x − max.
 * @param x  [...] of f32, at least one axis
 * @param axis  default the last
 * @throws DTypeError, ValueError, LimitError for rows above 5,000,000 on lavapipe
 */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return logSoftmaxRule(x, axis);
}
