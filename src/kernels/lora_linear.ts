// Low-rank linear: two products forward, four backward, dropout inside them. x: [..., in], W: [out, in] (or [in, out] where transposed),
// A: [r, in], B: [out, r], S: [rows, r]
import { DTypeError, ShapeError } from "../gpu/errors.ts";
import type { Key } from "../tensor/philox.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { rowsOf } from "./axes.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { type Drop, type MatmulOptions, matmulForward } from "./matmul.ts";

/** How a call is meant: the scale of the update, how W is stored, what is dropped. */
export interface LoraPlan {
  scale: number;
  transposed: boolean;
  p: number;
  key: Key;
}

/** Where a product is added or written, if it is not to be a new tensor. */
type Into = Pick<MatmulOptions, "into" | "out">;

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
    throw new DTypeError({
      op,
      arg: "weight",
      expected: "f32, f16, bf16, int8 or nf4",
      got: W.dtype,
    });
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

function dropOf({ p, key }: LoraPlan): { drop?: Drop } {
  return p > 0 ? { drop: { p, key } } : {};
}

/**
 * y = x·Wᵀ + bias + S·Bᵀ, one product that is in + r deep, and S = s·D(x)·Aᵀ, which backward needs.
 * Products with r columns are computed transposed, with r rows: see `NARROW` in matmul.ts.
 */
export function loraLinearForward(
  x: Tensor,
  W: Tensor,
  bias: Tensor | null,
  A: Tensor,
  B: Tensor,
  plan: LoraPlan,
  into: Into = {},
): { y: Tensor; S: Tensor } {
  const rows = rowsOf(x); // [n, in]
  const S = matmulForward(A, rows, {
    ...{ transposeB: true, transposeY: true, alpha: plan.scale, label: "lora_linear_forward_s" },
    ...dropOf(plan),
  }); // [n, r]
  const y = matmulForward(rows, W, {
    transposeB: !plan.transposed,
    ...(bias ? { bias } : {}),
    tail: { p: S, q: B, transposeQ: true },
    ...into,
    label: "lora_linear_forward",
  }); // [n, out]
  return { y: y.view([...x.shape.slice(0, -1), B.shape[0]!]), S };
}

/** dS = s·dy·B [n, r], which dx and dA share. */
export function loraLinearBackwardS(dy: Tensor, B: Tensor, scale: number): Tensor {
  return matmulForward(B, rowsOf(dy), {
    ...{ transposeA: true, transposeB: true, transposeY: true, alpha: scale },
    label: "lora_linear_backward_s",
  });
}

/** dx = D'(dS·A) + dy·W: the dropped part first, then the base on top of it. */
export function loraLinearBackwardX(
  dy: Tensor,
  dS: Tensor,
  W: Tensor,
  A: Tensor,
  plan: LoraPlan,
  into: Into,
): Tensor {
  return matmulForward(rowsOf(dy), W, {
    transposeB: plan.transposed,
    tail: { p: dS, q: A },
    ...dropOf(plan),
    ...into,
    label: "lora_linear_backward_x",
  });
}

/** dA = dSᵀ·D(x). */
export function loraLinearBackwardA(dS: Tensor, x: Tensor, plan: LoraPlan, into: Into): Tensor {
  return matmulForward(dS, rowsOf(x), {
    transposeA: true,
    ...dropOf(plan),
    ...into,
    label: "lora_linear_backward_a",
  });
}

/** dB = dyᵀ·S. */
export function loraLinearBackwardB(dy: Tensor, S: Tensor, into: Into): Tensor {
  return matmulForward(S, rowsOf(dy), {
    ...{ transposeA: true, transposeY: true, label: "lora_linear_backward_b" },
    ...into,
  });
}

/** dW of a base that is not frozen: dyᵀ·x, or xᵀ·dy where W is stored transposed. */
export function loraLinearBackwardWeight(
  dy: Tensor,
  x: Tensor,
  transposed: boolean,
  into: Into,
): Tensor {
  const [left, right] = transposed ? [x, dy] : [dy, x];
  return matmulForward(rowsOf(left), rowsOf(right), { transposeA: true, ...into });
}
