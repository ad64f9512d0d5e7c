// GELU: checks, output, dispatch. x, y: [...]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkShapeIs, checkWord } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("gelu");

/** Which form of GELU: exact, with erf, or the tanh approximation that GPT-2 uses. */
export type GeluForm = "none" | "tanh";

export function geluForward(x: Tensor, approximate: GeluForm): Tensor {
  checkDType("gelu", "x", x, "f32");
  checkWord("gelu", "approximate", approximate, ["none", "tanh"]);
  const y = Tensor.empty("gelu_forward", x.shape, "f32");
  kernel.run("gelu_forward", {
    tensors: { x, y },
    params: { n: x.size },
    constants: { TANH: Number(approximate === "tanh") },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return y;
}

export function geluBackward(dy: Tensor, x: Tensor, approximate: GeluForm): Tensor {
  checkShapeIs("gelu_backward", "dy", dy, x.shape);
  const dx = Tensor.empty("gelu_backward", x.shape, "f32");
  kernel.run("gelu_backward", {
    tensors: { x, dy, dx },
    params: { n: x.size },
    constants: { TANH: Number(approximate === "tanh") },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return dx;
}
