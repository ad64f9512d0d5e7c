// AdamW: one dispatch over flat arrays. parameter, gradient, m, v: [n], n a multiple of 4; clip: [1]
import type { Tensor } from "../tensor/tensor.ts";
import { checkShapeIs } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("adamw");

export interface AdamWTensors {
  parameter: Tensor;
  gradient: Tensor;
  /** Running mean of the gradients. */
  m: Tensor;
  /** Running mean of their squares. */
  v: Tensor;
  /** Factor of all gradients. */
  clip: Tensor;
}

export interface AdamWNumbers {
  lr: number;
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
  /** Counts from 1. */
  step: number;
}

/**
 * Moves parameter, m and v by one step, in place.
 * @param numbers  a function is asked again at each replay of a captured step
 */
export function adamwStep(
  tensors: AdamWTensors,
  numbers: AdamWNumbers | (() => AdamWNumbers),
): void {
  const { parameter } = tensors;
  for (const arg of ["gradient", "m", "v"] as const) {
    checkShapeIs("adamw_step", arg, tensors[arg], parameter.shape);
  }
  const n4 = Math.ceil(parameter.size / 4);
  const { constants, groups } = dealt("adamw_step", n4);
  const now = typeof numbers === "function" ? numbers : () => numbers;
  kernel.run("adamw_step", {
    tensors: { ...tensors },
    params: () => paramsOf(n4, now()),
    constants,
    groups,
    bytes: 7 * parameter.bytes, // parameter, m and v read and written; the gradient read
  });
}

function paramsOf(n4: number, { lr, betas, eps, weightDecay, step }: AdamWNumbers) {
  const [beta1, beta2] = betas;
  return {
    n4,
    beta2,
    rest1: 1 - beta1,
    rest2: 1 - beta2,
    keep: 1 - lr * weightDecay,
    rate: lr / (1 - beta1 ** step),
    root: Math.sqrt(1 - beta2 ** step),
    eps,
  };
}
