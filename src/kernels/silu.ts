// SiLU: checks, output, dispatch. x, y: [...]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkShapeIs } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("silu");

export function siluForward(x: Tensor): Tensor {
  checkDType("silu", "x", x, "f32");
  const y = Tensor.empty("silu_forward", x.shape, "f32");
  const n = Math.ceil(x.size / 4);
  kernel.run("silu_forward", { tensors: { x, y }, params: { n }, ...dealt("silu_forward", n) });
  return y;
}

export function siluBackward(dy: Tensor, x: Tensor): Tensor {
  checkShapeIs("silu_backward", "dy", dy, x.shape);
  const dx = Tensor.empty("silu_backward", x.shape, "f32");
  const n = Math.ceil(x.size / 4);
  const tensors = { x, dy, dx };
  kernel.run("silu_backward", { tensors, params: { n }, ...dealt("silu_backward", n) });
  return dx;
}
