import { type AdamWNumbers, adamwStep } from "../../kernels/adamw.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Segment } from "./arena.ts";
import { checkNumber, type GroupSettings, Optimizer, type ParameterGroup } from "./optimizer.ts";

export interface AdamWOptions {
  /** Learning rate. Default: 1e-3. */
  lr?: number;
  /** How slowly the means of the gradient and of its square forget. Default: [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the denominator. Default: 1e-8. */
  eps?: number;
  /** Default: 0.01. */
  weightDecay?: number;
}

/**
 * Adam with decoupled weight decay, in PyTorch's order of operations:
 * m += (1 − β1)(g − m), v = β2·v + (1 − β2)·g², p = p·(1 − lr·decay) − lr/c1 · m/(√v/√c2 + eps),
 * with c = 1 − β^step. One dispatch for each group.
 * @param params  trainable leaves, or groups of them with their own `lr` and `weightDecay`
 * @throws ValueError for frozen parameters, for one in two groups, and for numbers out of range
 * Source: Loshchilov & Hutter 2019, arXiv 1711.05101.
 */
export class AdamW extends Optimizer {
  readonly betas: readonly [number, number];
  readonly eps: number;

  constructor(
    params: readonly Tensor[] | readonly ParameterGroup[],
    { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 }: AdamWOptions = {},
  ) {
    for (const beta of betas) {
      checkNumber("AdamW", "betas", beta, beta >= 0 && beta < 1, "numbers in [0, 1)");
    }
    checkNumber("AdamW", "eps", eps, eps > 0, "a number above 0");
    super("AdamW", params, { lr, weightDecay }, ["exp_avg", "exp_avg_sq"]);
    this.betas = betas;
    this.eps = eps;
  }

  protected update(segment: Segment, settings: GroupSettings, clip: Tensor): void {
    const { parameters: parameter, gradients: gradient, state } = segment;
    const [m, v] = [state.get("exp_avg")!, state.get("exp_avg_sq")!];
    adamwStep({ parameter, gradient, m, v, clip }, () => this.numbers(settings));
  }

  /** What the step of a group computes with; for optimisers that correct it otherwise. */
  protected numbers(settings: GroupSettings): AdamWNumbers {
    const { betas, eps, steps: step } = this;
    return { ...settings, betas, eps, step };
  }
}
