import { ValueError } from "../../gpu/errors.ts";
import {
  checkLoraLinear,
  isFew,
  type LoraPlan,
  loraLinearBackwardA,
  loraLinearBackwardB,
  loraLinearBackwardS,
  loraLinearBackwardWeight,
  loraLinearBackwardX,
  loraLinearFew,
  loraLinearForward,
  loraLinearForwardS,
} from "../../kernels/lora_linear.ts";
import { foldForward, foldOf } from "../../kernels/reduce.ts";
import { inRanges } from "../../kernels/row_ranges.ts";
import { zeros } from "../../tensor/create.ts";
import { type Key, nextKey } from "../../tensor/philox.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { gradEnabled } from "../graph.ts";
import { op } from "../op.ts";
import { add, mul } from "./binary.ts";
import { dropout } from "./dropout.ts";
import { linear } from "./linear.ts";
import { onto } from "./onto.ts";

type List = readonly Tensor[];

/** How one of several layers is meant: `bias` is its place among those that are there, or −1. */
interface LayerPlan extends LoraPlan {
  bias: number;
}

const NO_KEY: Key = [0, 0];

const rule = op("lora_linear", {
  forward: (x: Tensor, Ws: List, biases: List, As: List, Bs: List, plans: LayerPlan[]) => {
    const Ss = loraLinearForwardS(x, As, plans);
    const ys = plans.map((plan, i) =>
      loraLinearForward(x, Ws[i]!, biases[plan.bias] ?? null, Ss[i]!, Bs[i]!, plan),
    );
    return [ys, { x, Ws: [...Ws], As: [...As], Bs: [...Bs], Ss, plans }];
  },
  backward: (given, saved, [needsX, needsW, needsBias, needsA, needsB], _, totals) => {
    const { x, Ws, As, Bs, Ss, plans } = saved;
    const dys = given.map((dy, i) => dy ?? zeros([...x.shape.slice(0, -1), Bs[i]!.shape[0]!]));
    const dSs = needsX || needsA ? loraLinearBackwardS(dys, Bs, plans) : [];
    let dx = totals[0];
    if (needsX) {
      // The last first, as backward() goes through layers apart: the same sums in the same order.
      for (let i = dys.length - 1; i >= 0; i--) {
        const layer = [dys[i]!, dSs[i]!, Ws[i]!, As[i]!, plans[i]!] as const;
        dx = onto(dx, x.shape, (o) => loraLinearBackwardX(...layer, o));
      }
    }
    return [
      needsX ? dx : null,
      needsW
        ? Ws.map((W, i) => {
            const { transposed } = plans[i]!;
            return onto(totals[1][i]!, W.shape, (o) =>
              loraLinearBackwardWeight(dys[i]!, x, transposed, o),
            );
          })
        : null,
      needsBias ? plans.flatMap(({ bias }, i) => (bias < 0 ? [] : [biasGradient(dys[i]!)])) : null,
      needsA ? loraLinearBackwardA(dSs, x, plans, totals[3]) : null,
      needsB
        ? Bs.map((B, i) =>
            onto(totals[4][i]!, B.shape, (o) => loraLinearBackwardB(dys[i]!, Ss[i]!, o)),
          )
        : null,
    ];
  },
});

function biasGradient(dy: Tensor): Tensor {
  const out = dy.shape[dy.rank - 1]!;
  return foldForward("lora_linear", "sum", dy, foldOf(dy.shape, 0, dy.rank - 1), [out]);
}

export interface LoraLinearOptions {
  /** s, such as lora_alpha/r. Default 1. */
  scale?: number;
  /** Probability with which elements of the adapter's input are dropped. Default 0. */
  dropout?: number;
  /** Off: nothing is dropped. Default true. */
  training?: boolean;
  /** The weight is stored [in, out], as GPT-2's are. Default false. */
  transposed?: boolean;
}

/** One of several layers on one input: the arguments of `loraLinear` but x. */
export interface LoraLinearLayer extends LoraLinearOptions {
  weight: Tensor;
  bias: Tensor | null;
  a: Tensor;
  b: Tensor;
}

/**
 * Linear layer with a low-rank update: y = x·Wᵀ + bias + s·(D(x)·Aᵀ)·Bᵀ, D being dropout.
 * A frozen weight costs no gradient; of the update only S = D(x)·Aᵀ [rows, r] is kept for backward.
 * @param x  [..., in] of f32
 * @param weight  [out, in], or [in, out] where `transposed`; f32, or frozen f16, bf16, int8 or nf4
 * @param bias  [out] or null
 * @param a  [r, in] of f32
 * @param b  [out, r] of f32
 * @throws ShapeError, DTypeError, ValueError
 * @see Hu et al. 2021, arXiv 2106.09685
 */
export function loraLinear(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  a: Tensor,
  b: Tensor,
  options: LoraLinearOptions = {},
): Tensor {
  return loraLinearEach(x, [{ ...options, weight, bias, a, b }])[0]!;
}

/**
 * Several layers on one input, each as `loraLinear`: queries, keys and values, or gate and up. Where
 * their updates have one rank, scale and dropout and their A lie side by side in memory, as an optimiser packs
 * them, the products with A and those for its gradient are one pass over x. Each layer drops on its own.
 * @param x  [..., in] of f32
 * @param layers  the arguments of `loraLinear`
 * @returns [..., out] of each layer
 * @throws ShapeError, DTypeError, ValueError
 */
export function loraLinearEach(x: Tensor, layers: readonly LoraLinearLayer[]): readonly Tensor[] {
  if (layers.length === 0) return [];
  if (layers.some(({ weight }) => inRanges(weight))) return layers.map((l) => apart(x, l));
  const biases: Tensor[] = [];
  const plans = layers.map((layer) => {
    const { weight, bias, a, b, scale = 1, dropout = 0, training = true } = layer;
    const { transposed = false } = layer;
    if (!(dropout >= 0 && dropout < 1)) {
      const facts = { arg: "dropout", expected: "in [0, 1)", got: `${dropout}` };
      throw new ValueError({ op: "lora_linear", ...facts });
    }
    checkLoraLinear(x, weight, bias, a, b, transposed);
    return {
      scale,
      transposed,
      p: training ? dropout : 0,
      key: NO_KEY,
      bias: bias ? biases.push(bias) - 1 : -1,
    };
  });
  if (!gradEnabled() && layers.every((l, i) => isFew(x, l.weight, l.a, plans[i]!))) {
    return layers.map((l, i) => loraLinearFew(x, l.weight, l.bias, l.a, l.b, plans[i]!));
  }
  const of = (pick: (layer: LoraLinearLayer) => Tensor) => layers.map(pick);
  return rule(
    x,
    of((l) => l.weight),
    biases,
    of((l) => l.a),
    of((l) => l.b),
    plans.map((plan): LayerPlan => ({ ...plan, key: plan.p > 0 ? nextKey() : NO_KEY })),
  );
}

/** A layer whose weight one binding may not hold: its product, and its update on top. */
function apart(x: Tensor, layer: LoraLinearLayer): Tensor {
  const { weight, bias, a, b, scale = 1, dropout: p = 0, training = true, transposed } = layer;
  if (!inRanges(weight)) return loraLinearEach(x, [layer])[0]!;
  checkLoraLinear(x, weight, bias, a, b, transposed ?? false);
  const y = linear(x, weight, bias, { transposed: transposed ?? false });
  return add(y, mul(linear(linear(dropout(x, p, { training }), a), b), scale));
}
