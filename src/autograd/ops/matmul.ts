import { checkDType } from "../../kernels/check.ts";
import { type MatmulOptions, matmulForward } from "../../kernels/matmul.ts";
import { foldForward, foldOf } from "../../kernels/reduce.ts";
import { broadcastShapes, type Shape, sameShape, sizeOf } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";
import { cast } from "./cast.ts";
import { broadcastTo } from "./copy.ts";
import type { Into } from "./onto.ts";

type Transposes = Pick<MatmulOptions, "transposeA" | "transposeB">;

const rule = op("matmul", {
  forward: (a: Tensor, b: Tensor, options: Transposes) => [
    matmulForward(a, b, options),
    // Each is kept for the gradient of the other.
    {
      ...{ a: b.requiresGrad ? a : null, b: a.requiresGrad ? b : null },
      ...{ aShape: a.shape, bShape: b.shape, options },
    },
  ],
  backward: (dy, { a, b, aShape, bShape, options }, _needs, _last, totals) => {
    const { transposeA: tA = false, transposeB: tB = false } = options;
    const da = (b: Tensor, into: Into) =>
      tA
        ? matmulForward(b, dy, { transposeA: tB, transposeB: true, ...into })
        : matmulForward(dy, b, { transposeB: !tB, ...into });
    const db = (a: Tensor, into: Into) =>
      tB
        ? matmulForward(dy, a, { transposeA: true, transposeB: tA, ...into })
        : matmulForward(a, dy, { transposeA: !tA, ...into });
    const batch = dy.shape.slice(0, -2);
    return [
      b && gradient(aShape, batch, totals[0], (into) => da(b, into)),
      a && gradient(bShape, batch, totals[1], (into) => db(a, into)),
    ];
  },
});

/** The gradient of one side: added to its total in place, unless it is a sum over the batch. */
function gradient(
  shape: Shape,
  batch: readonly number[],
  total: Tensor | null,
  make: (into: Into) => Tensor,
): Tensor {
  if (sameShape(shape.slice(0, -2), batch) && total) return make({ into: total });
  return sumTo(make({}), shape);
}

/** Sums a gradient over the batch that one matrix served. */
function sumTo(gradient: Tensor, shape: Shape): Tensor {
  if (gradient.size === sizeOf(shape)) return gradient.view(shape);
  const lead = gradient.rank - 2;
  const fold = foldOf(gradient.shape, 0, lead);
  return foldForward("matmul_backward", "sum", gradient, fold, shape);
}

/**
 * Matrix product over the last two axes; the axes before are a batch, which either side may lack.
 * @param a  [..., M, K] of f32, or [..., K, M] where `transposeA`
 * @param b  [..., K, N], or [..., N, K] where `transposeB`; f32, or frozen f16 or bf16
 * @returns [..., M, N]
 * @throws ShapeError, DTypeError
 */
export function matmul(a: Tensor, b: Tensor, options: Transposes = {}): Tensor {
  checkDType("matmul", "a", a, "f32");
  checkDType("matmul", "b", b, "f32", "f16", "bf16");
  const lead = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  return rule(repeated(a, lead), repeated(b, lead), options);
}

/** One matrix, or as many as the batch, as the kernel wants them; a part of a batch is copied. */
function repeated(x: Tensor, lead: readonly number[]): Tensor {
  const own = sizeOf(x.shape.slice(0, -2));
  if (own === 1 || own === sizeOf(lead)) return x;
  // Packed rows of an odd length cannot be copied by words; the copy is made in f32.
  const whole = x.dtype === "f32" ? x : cast(x, "f32");
  return broadcastTo(whole, [...lead, ...x.shape.slice(-2)]);
}
