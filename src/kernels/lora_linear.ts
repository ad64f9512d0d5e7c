// Low-rank linear: its products, composed. x: [..., in], W: [out, in] (or [in, out] where transposed),
// A: [r, in], B: [out, r], S: [rows, r]
import { DTypeError, ShapeError } from "../gpu/errors.ts";
import type { Key } from "../tensor/philox.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { accumulate } from "./accumulate.ts";
import { rowsOf } from "./axes.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { dropoutForward } from "./dropout.ts";
import { matmulForward } from "./matmul.ts";

/** How a call is meant: the scale of the update, how W is stored, what is dropped. */
export interface LoraPlan {
  scale: number;
  transposed: boolean;
  p: number;
  key: Key;
}

const op = "lora_linear";

/** Throws unless all shapes and types fit. */
export function checkLoraLinear(
  x: Tensor,
  W: Tensor,
  bias: Tensor | null,
  A: Tensor,
  B: Tensor,
  transposed: boolean,
): void {
  checkDType(op, "x", x, "f32");
  checkDType(op, "a", A, "f32");
  checkDType(op, "b", B, "f32");
  W.checkAlive(op, "weight");
  if (W.dtype === "i32" || W.dtype === "u32") {
    throw new DTypeError({ op, arg: "weight", expected: "f32, f16 or bf16", got: W.dtype });
  }
  checkRank(op, "x", x, 1, "[..., in]", true);
  checkRank(op, "weight", W, 2, transposed ? "[in, out]" : "[out, in]");
  const [out, inner] = (transposed ? [...W.shape].reverse() : W.shape) as [number, number];
  if (x.shape[x.rank - 1] !== inner) {
    const expected = `[..., in = ${inner}], for weight is ${format(W.shape)}`;
    throw new ShapeError({ op, arg: "x", expected, got: format(x.shape) });
  }
  checkRank(op, "a", A, 2, "[r, in]");
  const r = A.shape[0]!;
  if (r === 0) {
    throw new ShapeError({ op, arg: "a", expected: "[r, in], r > 0", got: format(A.shape) });
  }
  checkShapeIs(op, "a", A, [r, inner], "[r, in]");
  checkShapeIs(op, "b", B, [out, r], "[out, r]");
  if (bias) checkShapeIs(op, "bias", bias, [out], "[out]");
}

function dropped(x: Tensor, { p, key }: LoraPlan): Tensor {
  return p > 0 ? dropoutForward(x, p, key) : x;
}

/** y = x·Wᵀ + bias + s·S·Bᵀ, and S = D(x)·Aᵀ, which backward needs. */
export function loraLinearForward(
  x: Tensor,
  W: Tensor,
  bias: Tensor | null,
  A: Tensor,
  B: Tensor,
  plan: LoraPlan,
): { y: Tensor; S: Tensor } {
  const rows = rowsOf(x); // [n, in]
  const S = matmulForward(dropped(rows, plan), A, { transposeB: true }); // [n, r]
  const y = matmulForward(rows, W, {
    transposeB: !plan.transposed,
    ...(bias ? { bias } : {}),
  }); // [n, out]
  matmulForward(S, B, { transposeB: true, alpha: plan.scale, into: y });
  return { y: y.view([...x.shape.slice(0, -1), B.shape[0]!]), S };
}

/** dx = dy·W + D'(dS·A), with dS = s·dy·B. */
export function loraLinearBackwardX(
  dy: Tensor,
  dS: Tensor,
  W: Tensor,
  A: Tensor,
  plan: LoraPlan,
  shape: readonly number[],
): Tensor {
  const rows = rowsOf(dy);
  const dx = matmulForward(rows, W, { transposeB: plan.transposed }); // [n, in]
  if (plan.p === 0) matmulForward(dS, A, { into: dx });
  else accumulate(dx, dropoutForward(matmulForward(dS, A, {}), plan.p, plan.key));
  return dx.view(shape);
}

/** dS = s·dy·B [n, r], which dx and dA share. */
export function loraLinearBackwardS(dy: Tensor, B: Tensor, scale: number): Tensor {
  return matmulForward(rowsOf(dy), B, { alpha: scale });
}

/** dA = dSᵀ·D(x). */
export function loraLinearBackwardA(dS: Tensor, x: Tensor, plan: LoraPlan): Tensor {
  return matmulForward(dS, dropped(rowsOf(x), plan), { transposeA: true });
}

/** dB = s·dyᵀ·S. */
export function loraLinearBackwardB(dy: Tensor, S: Tensor, scale: number): Tensor {
  return matmulForward(rowsOf(dy), S, { transposeA: true, alpha: scale });
}

/** dW of a base that is not frozen: dyᵀ·x, or xᵀ·dy where W is stored transposed. */
export function loraLinearBackwardWeight(dy: Tensor, x: Tensor, transposed: boolean): Tensor {
  const [left, right] = transposed ? [x, dy] : [dy, x];
  return matmulForward(rowsOf(left), rowsOf(right), { transposeA: true });
}
