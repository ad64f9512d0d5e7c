// AdamW with decoupled weight decay, in PyTorch's order of operations.
// Loshchilov & Hutter 2019, arXiv 1711.05101.
import type { Numbers } from "./arrays.ts";

export interface AdamWOptions {
  lr: number;
  betas?: readonly [number, number];
  eps?: number;
  weightDecay?: number;
}

/** One step; `step` counts from 1. Nothing is changed in place. */
export function adamw(
  parameter: Numbers,
  gradient: Numbers,
  m: Numbers,
  v: Numbers,
  step: number,
  { lr, betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 }: AdamWOptions,
): { parameter: Float64Array; m: Float64Array; v: Float64Array } {
  const next = {
    parameter: Float64Array.from(parameter),
    m: Float64Array.from(m),
    v: Float64Array.from(v),
  };
  const correction1 = 1 - beta1 ** step;
  const correction2 = 1 - beta2 ** step;
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i]!;
    next.m[i] = beta1 * m[i]! + (1 - beta1) * g;
    next.v[i] = beta2 * v[i]! + (1 - beta2) * g * g;
    const denominator = Math.sqrt(next.v[i]!) / Math.sqrt(correction2) + eps;
    next.parameter[i] =
      parameter[i]! * (1 - lr * weightDecay) - ((lr / correction1) * next.m[i]!) / denominator;
  }
  return next;
}
