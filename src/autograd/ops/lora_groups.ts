import { ShapeError, ValueError } from "../../gpu/errors.ts";
import { rowsBetween, rowsOf } from "../../kernels/axes.ts";
import {
  checkLoraLinear,
  loraLinearBackwardA,
  loraLinearBackwardB,
  loraLinearBackwardS,
  loraLinearBackwardWeight,
  loraLinearBackwardX,
  loraLinearForward,
  loraLinearForwardS,
} from "../../kernels/lora_linear.ts";
import { matmulForward } from "../../kernels/matmul.ts";
import { foldForward, foldOf } from "../../kernels/reduce.ts";
import type { Key } from "../../tensor/philox.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";
import { onto } from "./onto.ts";

const OP = "lora_groups";
const BINDING = 256; // bytes: where a part of a buffer may begin

/** Rows that share an adapter. */
export interface RowGroup {
  /** How many. */
  rows: number;
  /** Which of the adapters; null: the base alone. */
  adapter: number | null;
  /** s. */
  scale: number;
  /** Probability of dropping. */
  p: number;
  key: Key;
}

export interface GroupsPlan {
  /** The base's weight is stored [in, out]. */
  transposed: boolean;
  groups: readonly RowGroup[];
}

type List = readonly Tensor[];

/** A group and where its rows begin and end. */
interface Part extends RowGroup {
  start: number;
  end: number;
}

function partsOf({ groups }: GroupsPlan): Part[] {
  let end = 0;
  return groups.map((group) => {
    end += group.rows;
    return { ...group, start: end - group.rows, end };
  });
}

const rule = op(OP, {
  forward: (x: Tensor, W: Tensor, bias: Tensor | null, As: List, Bs: List, plan: GroupsPlan) => {
    const N = W.shape[plan.transposed ? 1 : 0]!;
    const rows = rowsOf(x);
    const y = Tensor.empty(OP, [rows.shape[0]!, N], "f32");
    const S = partsOf(plan).flatMap(({ start, end, adapter, ...own }) => {
      const [part, out] = [rowsBetween(rows, start, end), rowsBetween(y, start, end)];
      if (adapter !== null) {
        const lora = { ...own, transposed: plan.transposed };
        const S = loraLinearForwardS(part, [As[adapter]!], [lora]);
        loraLinearForward(part, W, bias, S[0]!, Bs[adapter]!, lora, { out });
        return S;
      }
      const options = { transposeB: !plan.transposed, ...(bias ? { bias } : {}), out };
      matmulForward(part, W, options);
      return [];
    });
    const kept = { x, W, As: [...As], Bs: [...Bs], S, plan };
    return [y.view([...x.shape.slice(0, -1), N]), kept];
  },
  backward: (
    dy,
    { x, W, As, Bs, S, plan },
    [needsX, needsW, needsBias, needsA, needsB],
    _,
    totals,
  ) => {
    const { transposed } = plan;
    const [xs, dys] = [rowsOf(x), rowsOf(dy)];
    const dx = needsX ? (totals[0] ?? Tensor.empty(OP, x.shape, "f32")) : null;
    const dA: (Tensor | null)[] = As.map(() => null);
    const dB: (Tensor | null)[] = Bs.map(() => null);
    let seen = 0;
    for (const { start, end, adapter: i, ...own } of partsOf(plan)) {
      const [part, dyPart] = [rowsBetween(xs, start, end), rowsBetween(dys, start, end)];
      const dxPart = dx && rowsBetween(rowsOf(dx), start, end);
      const place = dxPart ? (totals[0] ? { into: dxPart } : { out: dxPart }) : {};
      if (i === null) {
        if (dx) matmulForward(dyPart, W, { transposeB: transposed, ...place });
        continue;
      }
      const [A, B, lora] = [As[i]!, Bs[i]!, { ...own, transposed }];
      const dS = loraLinearBackwardS([dyPart], [B], [lora]);
      if (dx) loraLinearBackwardX(dyPart, dS[0]!, W, A, lora, place);
      if (needsA) {
        const total = dA[i] ?? totals[3][i] ?? null;
        dA[i] = loraLinearBackwardA(dS, part, [lora], [total])[0]!;
      }
      const s = S[seen++]!;
      if (needsB) {
        dB[i] = onto(dB[i] ?? totals[4][i] ?? null, B.shape, (o) =>
          loraLinearBackwardB(dyPart, s, o),
        );
      }
    }
    return [
      dx,
      needsW
        ? onto(totals[1], W.shape, (o) => loraLinearBackwardWeight(dy, x, transposed, o))
        : null,
      needsBias
        ? foldForward(OP, "sum", dy, foldOf(dy.shape, 0, dy.rank - 1), [dy.shape.at(-1)!])
        : null,
      dA,
      dB,
    ];
  },
});

/** Whether every group of rows of widths `ins` and `outs` begins where a binding may. */
export function canGroup(
  groups: readonly Pick<RowGroup, "rows">[],
  widths: readonly number[],
): boolean {
  let start = 0;
  return groups.every(({ rows }) => {
    const fits = widths.every((width) => (start * width * 4) % BINDING === 0);
    start += rows;
    return fits;
  });
}

/**
 * A linear layer over groups of rows, each with a low-rank update of its own, or none: of each group what
 * `loraLinear` computes of it alone, to the bit, in one tensor.
 * @param x  [..., in] of f32
 * @param weight  [out, in], or [in, out] where `plan.transposed`; f32, or frozen f16, bf16, int8 or nf4
 * @param bias  [out] or null
 * @param as  A [r, in] of each adapter
 * @param bs  B [out, r] of each adapter
 * @param plan  the groups, in the order of the rows; each begins where `canGroup` allows
 * @throws ShapeError, DTypeError
 * @see Hu et al. 2021, arXiv 2106.09685
 */
export function loraGroups(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  as: List,
  bs: List,
  plan: GroupsPlan,
): Tensor {
  for (const [i, a] of as.entries()) {
    checkLoraLinear(x, weight, bias, a, bs[i]!, plan.transposed);
  }
  const odd = plan.groups.find(({ adapter }) => adapter !== null && !as[adapter]);
  if (odd) {
    const expected = `of adapters 0 to ${as.length - 1}, or null`;
    throw new ValueError({ op: OP, arg: "groups", expected, got: `${odd.adapter}` });
  }
  const rows = x.size / x.shape.at(-1)!;
  const sum = plan.groups.reduce((n, group) => n + group.rows, 0);
  const widths = [x.shape.at(-1)!, weight.shape[plan.transposed ? 1 : 0]!];
  if (sum !== rows || !canGroup(plan.groups, widths)) {
    const expected = `${rows} rows together, each beginning at a multiple of ${BINDING} bytes`;
    const got = plan.groups.map((group) => group.rows).join(", ");
    throw new ShapeError({ op: OP, arg: "groups", expected, got });
  }
  return rule(x, weight, bias, as, bs, plan);
}
