import { ValueError } from "../../gpu/errors.ts";
import { sgdStep } from "../../kernels/sgd.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Segment } from "./arena.ts";
import { checkNumber, type GroupSettings, Optimizer, type ParameterGroup } from "./optimizer.ts";

export interface SGDOptions {
  /** Learning rate. Default: 1e-3. */
  lr?: number;
  /** Share of the last step's direction that is kept. Default: 0. */
  momentum?: number;
  /** Look ahead along the momentum. Default: false. */
  nesterov?: boolean;
  /** Added to the gradient as decay · p. Default: 0. */
  weightDecay?: number;
}

/**
 * Stochastic gradient descent as PyTorch computes it: g += decay·p, u = momentum·u + g,
 * p −= lr·u (with Nesterov: lr·(g + momentum·u)). One dispatch for each group.
 * @param params  trainable leaves, or groups of them with their own `lr` and `weightDecay`
 * @throws ValueError for frozen parameters, for one in two groups, and for numbers out of range
 * Source: Sutskever et al. 2013, "On the importance of initialization and momentum".
 */
export class SGD extends Optimizer {
  readonly momentum: number;
  readonly nesterov: boolean;

  constructor(
    params: readonly Tensor[] | readonly ParameterGroup[],
    { lr = 1e-3, momentum = 0, nesterov = false, weightDecay = 0 }: SGDOptions = {},
  ) {
    checkNumber("SGD", "momentum", momentum, momentum >= 0, "a number of at least 0");
    if (nesterov && momentum === 0) {
      const expected = "above 0 with nesterov";
      throw new ValueError({ op: "SGD", arg: "momentum", expected, got: "0" });
    }
    super("SGD", params, { lr, weightDecay }, momentum > 0 ? ["momentum_buffer"] : []);
    this.momentum = momentum;
    this.nesterov = nesterov;
  }

  protected update(segment: Segment, settings: GroupSettings, clip: Tensor): void {
    const { parameters: parameter, gradients: gradient, state } = segment;
    const velocity = state.get("momentum_buffer");
    const { momentum, nesterov } = this;
    const numbers = () => ({ ...settings, momentum, nesterov });
    sgdStep({ parameter, gradient, velocity, clip }, numbers);
  }
}
