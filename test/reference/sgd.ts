// SGD with momentum, Nesterov's variant and L2 weight decay, as PyTorch computes it.
import type { Numbers } from "./arrays.ts";

export interface SgdOptions {
  lr: number;
  momentum?: number;
  nesterov?: boolean;
  weightDecay?: number;
}

/** One step. `velocity` is null at the first, which starts it with the gradient itself. */
export function sgd(
  parameter: Numbers,
  gradient: Numbers,
  velocity: Numbers | null,
  { lr, momentum = 0, nesterov = false, weightDecay = 0 }: SgdOptions,
): { parameter: Float64Array; velocity: Float64Array } {
  const next = {
    parameter: Float64Array.from(parameter),
    velocity: new Float64Array(parameter.length),
  };
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i]! + weightDecay * parameter[i]!;
    const u = velocity ? momentum * velocity[i]! + g : g;
    next.velocity[i] = u;
    next.parameter[i]! -= lr * (nesterov ? g + momentum * u : u);
  }
  return next;
}
