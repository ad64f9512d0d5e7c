// SwiGLU: checks, outputs, dispatches. gate, up, y: [...]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkShapeIs } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("swiglu");

export function swigluForward(gate: Tensor, up: Tensor): Tensor {
  checkDType("swiglu", "gate", gate, "f32");
  checkDType("swiglu", "up", up, "f32");
  checkShapeIs("swiglu", "up", up, gate.shape);
  const y = Tensor.empty("swiglu_forward", gate.shape, "f32");
  const n = Math.ceil(y.size / 4);
  const tensors = { gate, up, y };
  kernel.run("swiglu_forward", { tensors, params: { n }, ...dealt("swiglu_forward", n) });
  return y;
}

export function swigluBackward(dy: Tensor, gate: Tensor, up: Tensor): [Tensor, Tensor] {
  checkShapeIs("swiglu_backward", "dy", dy, gate.shape);
  const dgate = Tensor.empty("swiglu_backward", gate.shape, "f32");
  const dup = Tensor.empty("swiglu_backward", gate.shape, "f32");
  const n = Math.ceil(gate.size / 4);
  const tensors = { gate, up, dy, dgate, dup };
  kernel.run("swiglu_backward", { tensors, params: { n }, ...dealt("swiglu_backward", n) });
  return [dgate, dup];
}

/** The same, written where gate and up were: nobody else may need them. */
export function swigluBackwardInPlace(dy: Tensor, gate: Tensor, up: Tensor): [Tensor, Tensor] {
  checkShapeIs("swiglu_backward", "dy", dy, gate.shape);
  const n = Math.ceil(gate.size / 4);
  const tensors = { gate_then_dgate: gate, up_then_dup: up, dy };
  const deal = dealt("swiglu_backward", n);
  const bytes = 5 * dy.bytes;
  kernel.run("swiglu_backward_in_place", { tensors, params: { n }, bytes, ...deal });
  return [gate, up];
}
