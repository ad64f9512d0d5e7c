import { ShapeError } from "../../gpu/errors.ts";
import { rowsOf } from "../../kernels/axes.ts";
import { checkDType, checkRank, checkShapeIs } from "../../kernels/check.ts";
import { matmulForward } from "../../kernels/matmul.ts";
import { foldForward } from "../../kernels/reduce.ts";
import { inRanges, rowRanges } from "../../kernels/row_ranges.ts";
import { format } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";
import { add } from "./binary.ts";
import { concat } from "./concat.ts";
import { checkFrozenTable } from "./frozen_table.ts";
import { type Into, onto } from "./onto.ts";

const rule = op("linear", {
  forward: (x: Tensor, weight: Tensor, bias: Tensor | null, transposed: boolean) => {
    const y = matmulForward(rowsOf(x), weight, {
      transposeB: !transposed,
      ...(bias ? { bias } : {}),
    });
    // Only the weight's gradient needs x: under a frozen weight it is not kept.
    const kept = { x: weight.requiresGrad ? x : null, weight, shape: x.shape, transposed };
    return [y.view([...x.shape.slice(0, -1), y.shape[1]!]), kept];
  },
  backward: (dy, { x, weight, shape, transposed }, [needsX, needsWeight, needsBias], _, totals) => {
    const rows = rowsOf(dy);
    return [
      needsX
        ? onto(totals[0], shape, (into) =>
            matmulForward(rows, weight, { transposeB: transposed, ...into }),
          )
        : null,
      needsWeight && x
        ? onto(totals[1], weight.shape, (into) => weightGradient(rows, rowsOf(x), transposed, into))
        : null,
      needsBias ? columnSum(rows) : null,
    ];
  },
});

function weightGradient(dy: Tensor, x: Tensor, transposed: boolean, into: Into): Tensor {
  const [left, right] = transposed ? [x, dy] : [dy, x];
  return matmulForward(left, right, { transposeA: true, ...into });
}

function columnSum(rows: Tensor): Tensor {
  const [R, inner] = rows.shape as [number, number];
  return foldForward("linear", "sum", rows, { outer: 1, R, inner }, [inner]);
}

/**
 * Linear layer: y = x·weightᵀ + bias, or x·weight + bias where the weight is stored transposed.
 * @param x  [..., in] of f32
 * @param weight  [out, in], or [in, out] where `transposed`; f32, or frozen f16, bf16, int8 or nf4
 * @param bias  [out] of f32, or null
 * @returns [..., out]
 * @throws ShapeError, DTypeError; LimitError for one that a binding does not hold, unless it is frozen and [out, in]
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: { transposed?: boolean } = {},
): Tensor {
  const { transposed = false } = options;
  checkDType("linear", "x", x, "f32");
  checkDType("linear", "weight", weight, "f32", "f16", "bf16", "int8", "nf4");
  checkRank("linear", "x", x, 1, "[..., in]", true);
  checkRank("linear", "weight", weight, 2, transposed ? "[in, out]" : "[out, in]");
  const inner = weight.shape[transposed ? 0 : 1]!;
  if (x.shape[x.rank - 1] !== inner) {
    const expected = `[..., in = ${inner}], for weight is ${format(weight.shape)}`;
    throw new ShapeError({ op: "linear", arg: "x", expected, got: format(x.shape) });
  }
  if (bias) {
    checkDType("linear", "bias", bias, "f32");
    checkShapeIs("linear", "bias", bias, [weight.shape[transposed ? 1 : 0]!], "[out]");
  }
  if (!transposed && inRanges(weight)) return linearInRanges(x, weight, bias);
  return rule(x, weight, bias, transposed);
}

/** The columns of y that belong to each range of a large weight's rows, side by side. */
function linearInRanges(x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  checkFrozenTable("linear", weight);
  const parts = rowRanges("linear", weight).map(({ part }) => rule(x, part, null, false));
  const y = concat(parts, -1);
  return bias ? add(y, bias) : y;
}
