// GELU: checks, output, dispatch. x, y: [...]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkShapeIs, checkWord } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("gelu");

/** Which form of GELU: exact, with erf, or the tanh approximation that GPT-2 uses. */
export type GeluForm = "none" | "tanh";

function launch(
  entry: string,
  tensors: Record<string, Tensor>,
  size: number,
  form: GeluForm,
): void {
  const n = Math.ceil(size / 4);
  const { constants, groups } = dealt(entry, n);
  const TANH = Number(form === "tanh");
  kernel.run(entry, { tensors, params: { n }, constants: { ...constants, TANH }, groups });
}

export function geluForward(x: Tensor, approximate: GeluForm): Tensor {
  checkDType("gelu", "x", x, "f32");
  checkWord("gelu", "approximate", approximate, ["none", "tanh"]);
  const y = Tensor.empty("gelu_forward", x.shape, "f32");
  launch("gelu_forward", { x, y }, x.size, approximate);
  return y;
}

export function geluBackward(dy: Tensor, x: Tensor, approximate: GeluForm): Tensor {
  checkShapeIs("gelu_backward", "dy", dy, x.shape);
  const dx = Tensor.empty("gelu_backward", x.shape, "f32");
  launch("gelu_backward", { x, dy, dx }, x.size, approximate);
  return dx;
}
