// GELU: checks, outputs, dispatches. x, y: [...], or [..., D] with a bias [D]
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs, checkWord } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";
import { foldForward } from "./reduce.ts";
import { shareColumns } from "./rows.ts";

const kernel = ownKernel("gelu");

/** Which form of GELU: exact, with erf, or the tanh approximation that GPT-2 uses. */
export type GeluForm = "none" | "tanh";

const tanhOf = (form: GeluForm) => ({ TANH: Number(form === "tanh") });

type Entry = "gelu_forward" | "gelu_backward";

function run(entry: Entry, tensors: Record<string, Tensor>, size: number, form: GeluForm): void {
  const n = Math.ceil(size / 4);
  const { constants, groups } = dealt(entry, n);
  const params = { n, D: 0, block: 0 };
  kernel.run(entry, { tensors, params, constants: { ...constants, ...tanhOf(form) }, groups });
}

/** gelu(x), or gelu(x + bias). */
export function geluForward(x: Tensor, approximate: GeluForm, bias: Tensor | null = null): Tensor {
  checkDType("gelu", "x", x, "f32");
  checkWord("gelu", "approximate", approximate, ["none", "tanh"]);
  if (bias) return geluBiasForward(x, approximate, bias);
  const y = Tensor.empty("gelu_forward", x.shape, "f32");
  run("gelu_forward", { x, y }, x.size, approximate);
  return y;
}

export function geluBackward(dy: Tensor, x: Tensor, approximate: GeluForm): Tensor {
  checkShapeIs("gelu_backward", "dy", dy, x.shape);
  const dx = Tensor.empty("gelu_backward", x.shape, "f32");
  run("gelu_backward", { x, dy, dx }, x.size, approximate);
  return dx;
}

/** What a launch with a bias needs besides its tensors, and into how many blocks the rows are cut. */
function plan(op: string, x: Tensor, bias: Tensor, form: GeluForm) {
  const width = bias.size % 4 === 0 ? 4 : 1;
  const D = bias.size / width;
  const rows = D === 0 ? 0 : x.size / bias.size;
  const { block, blocks, groups, defines } = shareColumns(op, rows, D);
  const V = width === 4 ? "vec4<f32>" : "f32";
  const params = { n: x.size / width, D, block };
  return {
    blocks,
    launch: { params, constants: tanhOf(form), defines: { V, ...defines }, groups },
  };
}

function geluBiasForward(x: Tensor, form: GeluForm, bias: Tensor): Tensor {
  checkDType("gelu", "bias", bias, "f32");
  checkRank("gelu", "x", x, 1, "[..., D]", true);
  checkShapeIs("gelu", "bias", bias, x.shape.slice(-1), "[D]");
  const { launch } = plan("gelu_bias_forward", x, bias, form);
  const y = Tensor.empty("gelu_bias_forward", x.shape, "f32");
  kernel.run("gelu_bias_forward", { tensors: { x, bias, y }, ...launch });
  return y;
}

/** dx, and dbias [D] where it is wanted: blocks of rows, then their sum. */
export function geluBiasBackward(
  dy: Tensor,
  x: Tensor,
  approximate: GeluForm,
  bias: Tensor,
  needsBias: boolean,
): { dx: Tensor; dbias: Tensor | null } {
  const op = "gelu_bias_backward";
  checkShapeIs(op, "dy", dy, x.shape);
  const { blocks, launch } = plan(op, x, bias, approximate);
  const dx = Tensor.empty(op, x.shape, "f32");
  const parts = Tensor.empty(op, [blocks, bias.size], "f32");
  kernel.run(op, { tensors: { x, dy, bias, dx, dbias: parts }, ...launch });
  const fold = { outer: 1, R: blocks, inner: bias.size };
  return { dx, dbias: needsBias ? foldForward(op, "sum", parts, fold, bias.shape) : null };
}
