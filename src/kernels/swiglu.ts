// SwiGLU: checks, outputs, dispatches. gate, up, y: [...]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("swiglu");

export function swigluForward(gate: Tensor, up: Tensor): Tensor {
  checkDType("swiglu", "gate", gate, "f32");
  checkDType("swiglu", "up", up, "f32");
  checkShapeIs("swiglu", "up", up, gate.shape);
  const y = Tensor.empty("swiglu_forward", gate.shape, "f32");
  kernel.run("swiglu_forward", {
    tensors: { gate, up, y },
    params: { n: y.size },
    groups: grid(Math.ceil(y.size / 64)),
  });
  return y;
}

export function swigluBackward(dy: Tensor, gate: Tensor, up: Tensor): [Tensor, Tensor] {
  checkShapeIs("swiglu_backward", "dy", dy, gate.shape);
  const dgate = Tensor.empty("swiglu_backward", gate.shape, "f32");
  const dup = Tensor.empty("swiglu_backward", gate.shape, "f32");
  kernel.run("swiglu_backward", {
    tensors: { gate, up, dy, dgate, dup },
    params: { n: gate.size },
    groups: grid(Math.ceil(gate.size / 64)),
  });
  return [dgate, dup];
}
