import { rowsOf } from "../../kernels/axes.ts";
import {
  checkChunk,
  checkLinearCrossEntropy,
  type LinearCrossEntropyPlan,
  type LinearCrossEntropyWanted,
  type LogitUpdate,
  linearCrossEntropyBackward,
  linearCrossEntropyChunk,
  linearCrossEntropyForward,
} from "../../kernels/linear_cross_entropy.ts";
import { kernelPath } from "../../kernels/path.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { gradEnabled } from "../graph.ts";
import { op } from "../op.ts";
import { add, div, mul } from "./binary.ts";
import { crossEntropy } from "./cross_entropy.ts";
import { checkFrozenTable } from "./frozen_table.ts";
import { linear } from "./linear.ts";
import { reshape } from "./reshape.ts";
import { tanh } from "./unary.ts";

const rule = op("linear_cross_entropy", {
  forward: (
    x: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    s: Tensor | null,
    b: Tensor | null,
    targets: Tensor,
    plan: LinearCrossEntropyPlan,
    wanted: LinearCrossEntropyWanted,
  ) => {
    const flat = targets.view([targets.size]);
    const update = s && b && { s: rowsOf(s), b };
    const made = linearCrossEntropyForward(rowsOf(x), weight, bias, flat, update, plan, wanted);
    const { y, dx, dweight, dbias, ds, db } = made;
    return [y, { dx: dx?.view(x.shape), dweight, dbias, ds: s && ds?.view(s.shape), db }];
  },
  backward: (dy, { dx, dweight, dbias, ds, db }, _needs, last) =>
    [dx, dweight, dbias, ds, db].map((g) => g && linearCrossEntropyBackward(dy, g, last)),
});

export interface LinearCrossEntropyOptions {
  /** Rows with this target count for nothing. Default −100. */
  ignoreIndex?: number;
  /** The mean over the rows that count (0 where none does), or the sum. Default "mean". */
  reduction?: "mean" | "sum";
  /** Logits l become cap·tanh(l/cap), as in Gemma 2. Default 0: they stay as they are. */
  softcap?: number;
  /** A low-rank update, s [..., r] and b [V, r] of f32: the logits are x·weightᵀ + bias + s·bᵀ. Default: none. */
  update?: LogitUpdate | null;
  /** Rows of logits that are made at once, a multiple of 64. Default: as many logits as x has elements. */
  rows?: number;
  /** Columns of logits that are made at once, a multiple of 128, or V. Default: V, where a binding holds it. */
  columns?: number;
}

/**
 * Cross-entropy of the logits of a linear layer, which are never whole: crossEntropy(x·weightᵀ + bias).
 * The logits of a few rows are made, and their gradient in their place; what is kept for backward is
 * the gradient of x, and those of weight and bias only where they are trained.
 * @param x  [..., d] of f32
 * @param weight  [V, d] of f32, or frozen f16 or bf16
 * @param bias  [V] of f32, or null
 * @param targets  [...] of i32 or u32: classes in [0, V), or `ignoreIndex`
 * @returns a scalar, in nats
 * @throws DTypeError, ShapeError, and ValueError for targets that are known to lie outside [0, V − 1]
 * Source: Hsu et al. 2024, "Liger Kernel", arXiv 2410.10989.
 */
export function linearCrossEntropy(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { ignoreIndex = -100, reduction = "mean", softcap = 0, update = null } = options;
  checkLinearCrossEntropy(x, weight, bias, targets, update, { ignoreIndex, softcap });
  checkFrozenTable("linear_cross_entropy", weight);
  if (kernelPath() === "plain") {
    const plain = linear(x, weight, bias);
    const all = update ? add(plain, linear(update.s, update.b)) : plain;
    const whole = reshape(all, [targets.size, weight.shape[0]!]);
    const logits = softcap > 0 ? mul(tanh(div(whole, softcap)), softcap) : whole;
    return crossEntropy(logits, reshape(targets, [targets.size]), { ignoreIndex, reduction });
  }
  const [V, d] = weight.shape as [number, number];
  const { s = null, b = null } = update ?? {};
  const chunk = linearCrossEntropyChunk(targets.size, d, V, Math.max(weight.bytes, b?.bytes ?? 0));
  const plan = { ignoreIndex, reduction, softcap, ...chunk };
  if (options.rows !== undefined) plan.rows = options.rows;
  if (options.columns !== undefined) plan.columns = options.columns;
  checkChunk(plan.rows, plan.columns, V);
  const wants = (t: Tensor | null) => gradEnabled() && Boolean(t?.requiresGrad);
  const wanted = {
    x: wants(x),
    weight: wants(weight),
    bias: wants(bias),
    s: wants(s),
    b: wants(b),
  };
  return rule(x, weight, bias, s, b, targets, plan, wanted);
}
