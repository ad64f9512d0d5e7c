// The fluent names: x.matmul(w) is matmul(x, w). The names and the order of arguments are the functions'
// own, which are PyTorch's where PyTorch has the op. `import "lowrank"` attaches them; src/ itself calls
// the functions, so that no room depends on this file.
import type { GeluForm } from "../kernels/gelu.ts";
import type { Operand } from "../kernels/operand.ts";
import type { DType } from "../tensor/dtype.ts";
import type { Shape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type BackwardOptions, backward } from "./backward.ts";
import { detach } from "./grad.ts";
import * as ops from "./ops/index.ts";
import type { Axes, ReduceOptions } from "./ops/reduce.ts";

/** What the function of the same name takes after its first tensor; its docstring says what it means. */
export interface Methods {
  abs(): Tensor;
  add(b: Operand): Tensor;
  argmax(axis?: number, options?: ReduceOptions): Tensor;
  backward(options?: BackwardOptions): void;
  broadcastTo(shape: Shape): Tensor;
  cast(dtype: DType): Tensor;
  ceil(): Tensor;
  chunk(parts: number, axis?: number): Tensor[];
  clamp(low?: number, high?: number): Tensor;
  cos(): Tensor;
  detach(): Tensor;
  div(b: Operand): Tensor;
  dropout(p: number, options?: { training?: boolean }): Tensor;
  eq(b: Operand): Tensor;
  erf(): Tensor;
  exp(): Tensor;
  expm1(): Tensor;
  floor(): Tensor;
  gather(axis: number, ids: Tensor): Tensor;
  ge(b: Operand): Tensor;
  gelu(approximate?: GeluForm, bias?: Tensor | null): Tensor;
  gt(b: Operand): Tensor;
  indexSelect(ids: Tensor): Tensor;
  le(b: Operand): Tensor;
  log(): Tensor;
  log1p(): Tensor;
  logSoftmax(axis?: number): Tensor;
  lt(b: Operand): Tensor;
  matmul(b: Tensor, options?: { transposeA?: boolean; transposeB?: boolean }): Tensor;
  max(axes?: Axes, options?: ReduceOptions): Tensor;
  maximum(b: Operand): Tensor;
  mean(axes?: Axes, options?: ReduceOptions): Tensor;
  min(axes?: Axes, options?: ReduceOptions): Tensor;
  minimum(b: Operand): Tensor;
  mul(b: Operand): Tensor;
  ne(b: Operand): Tensor;
  neg(): Tensor;
  permute(axes: Shape): Tensor;
  pow(b: Operand): Tensor;
  reciprocal(): Tensor;
  relu(): Tensor;
  reshape(shape: Shape): Tensor;
  round(): Tensor;
  rsqrt(): Tensor;
  sigmoid(): Tensor;
  sign(): Tensor;
  silu(): Tensor;
  sin(): Tensor;
  slice(axis: number, start: number, end?: number): Tensor;
  softmax(axis?: number): Tensor;
  softplus(): Tensor;
  split(sizes: number | Shape, axis?: number): Tensor[];
  sqrt(): Tensor;
  square(): Tensor;
  squeeze(axis?: number): Tensor;
  sub(b: Operand): Tensor;
  sum(axes?: Axes, options?: ReduceOptions): Tensor;
  tanh(): Tensor;
  transpose(i?: number, j?: number): Tensor;
  unsqueeze(axis: number): Tensor;
  /** The function `variance`, under PyTorch's name, which is a word of the language. */
  var(axes?: Axes, options?: ReduceOptions & { correction?: number }): Tensor;
  /** x where the mask is not 0, `other` elsewhere, as torch.Tensor.where: `where(mask, x, other)`. */
  where(mask: Tensor, other: Operand): Tensor;
}

declare module "../tensor/tensor.ts" {
  interface Tensor extends Methods {}
}

/** Ops that stay functions alone, as in PyTorch, and why. */
export const functionsOnly = {
  attention: "q, k and v stand side by side",
  concat: "takes a list",
  crossEntropy: "a loss: torch.nn.functional has it, torch.Tensor has not",
  embedding: "its first argument is the table, not what is looked up",
  layerNorm: "a layer: its weights stand beside x",
  layerNormAdd: "a layer",
  linear: "a layer",
  linearCrossEntropy: "a layer and its loss",
  loraGroups: "a layer",
  loraLinear: "a layer",
  loraLinearEach: "layers",
  loraMixed: "a layer",
  rmsNorm: "a layer",
  rmsNormAdd: "a layer",
  rope: "a layer",
  swiglu: "gate and up stand side by side",
  variance: "x.var()",
} as const;

type Functions = {
  [K in keyof Methods]: (x: Tensor, ...rest: Parameters<Methods[K]>) => ReturnType<Methods[K]>;
};

const own: Pick<Functions, "backward" | "detach" | "var" | "where"> = {
  backward,
  detach,
  var: ops.variance,
  where: (x, mask, other) => ops.where(mask, x, other),
};

/** Ops that are neither methods nor listed above: the compiler refuses the next line if there are any. */
type Forgotten = Exclude<keyof typeof ops, keyof Methods | keyof typeof functionsOnly>;
const functions: Functions & Record<Forgotten, never> = { ...ops, ...own };

for (const [name, call] of Object.entries(functions)) {
  if (name in functionsOnly) continue;
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: never[]) {
      return (call as (x: Tensor, ...rest: never[]) => unknown)(this, ...rest);
    },
    writable: true,
    configurable: true,
  });
}
