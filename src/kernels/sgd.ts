// SGD: one dispatch over flat arrays. parameter, gradient, velocity: [n], n a multiple of 4; clip: [1]
import type { Tensor } from "../tensor/tensor.ts";
import { checkShapeIs } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("sgd");

export interface SGDTensors {
  parameter: Tensor;
  gradient: Tensor;
  /** Running sum of the gradients; absent without momentum. Zeros before the first step. */
  velocity?: Tensor | undefined;
  /** Factor of all gradients. */
  clip: Tensor;
}

export interface SGDNumbers {
  lr: number;
  momentum: number;
  nesterov: boolean;
  weightDecay: number;
}

/**
 * Moves parameter and velocity by one step, in place.
 * @param numbers  a function is asked again at each replay of a captured step
 */
export function sgdStep(tensors: SGDTensors, numbers: SGDNumbers | (() => SGDNumbers)): void {
  const { parameter, gradient, velocity, clip } = tensors;
  checkShapeIs("sgd_step", "gradient", gradient, parameter.shape);
  if (velocity) checkShapeIs("sgd_step", "velocity", velocity, parameter.shape);
  const n4 = Math.ceil(parameter.size / 4);
  const { constants, groups } = dealt("sgd_step", n4);
  const now = typeof numbers === "function" ? numbers : () => numbers;
  kernel.run(velocity ? "sgd_momentum" : "sgd_step", {
    tensors: { parameter, gradient, clip, ...(velocity ? { velocity } : {}) },
    params: () => paramsOf(n4, now()),
    constants,
    groups,
    bytes: (velocity ? 5 : 3) * parameter.bytes, // all but the gradient read and written
  });
}

function paramsOf(n4: number, { lr, momentum, nesterov, weightDecay: decay }: SGDNumbers) {
  return { n4, lr, decay, momentum, nesterov: Number(nesterov) };
}
