// Functions of one argument, element by element: checks, outputs, dispatches.
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkShapeIs } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("unary");

/** In the order of unary.wgsl's OP. */
const NAMES = [
  "neg",
  "abs",
  "exp",
  "log",
  "sqrt",
  "rsqrt",
  "square",
  "reciprocal",
  "sin",
  "cos",
  "tanh",
  "sigmoid",
  "relu",
  "sign",
  "floor",
  "ceil",
  "round",
  "log1p",
  "expm1",
  "erf",
  "softplus",
  "clamp",
] as const;

export type UnaryName = (typeof NAMES)[number];

/** The bounds of clamp; unused by the others. */
interface Bounds {
  low: number;
  high: number;
}

const NO_BOUNDS: Bounds = { low: 0, high: 0 };

export function unaryForward(name: UnaryName, x: Tensor, bounds = NO_BOUNDS): Tensor {
  checkDType(name, "x", x, "f32");
  const y = Tensor.empty(name, x.shape, "f32");
  run("unary_forward", name, { x, y }, x.size, bounds);
  return y;
}

/** dx = dy · f'(x). */
export function unaryBackward(name: UnaryName, dy: Tensor, x: Tensor, bounds = NO_BOUNDS): Tensor {
  checkShapeIs(`${name}_backward`, "dy", dy, x.shape);
  const dx = Tensor.empty(`${name}_backward`, x.shape, "f32");
  run("unary_backward", name, { x, dy, dx }, x.size, bounds);
  return dx;
}

function run(
  entry: "unary_forward" | "unary_backward",
  name: UnaryName,
  tensors: Record<string, Tensor>,
  size: number,
  { low, high }: Bounds,
): void {
  const n = Math.ceil(size / 4);
  const { constants, groups } = dealt(entry, n);
  kernel.run(entry, {
    tensors,
    params: { n, low, high },
    constants: { ...constants, OP: NAMES.indexOf(name) },
    groups,
  });
}
