// Where parameters come from: random numbers, constants, or nothing yet while a checkpoint loads.
import { full, parameter, rand, randn } from "../tensor/create.ts";
import type { Shape } from "../tensor/shape.ts";
import { Storage } from "../tensor/storage.ts";
import { Tensor } from "../tensor/tensor.ts";

let empty = false;

/**
 * Builds a module whose parameters have shapes but no memory, for a loader that fills every one.
 * Using such a parameter before that is an error of the device.
 */
export function withEmptyWeights<T>(build: () => T): T {
  const before = empty;
  empty = true;
  try {
    return build();
  } finally {
    empty = before;
  }
}

function make(shape: Shape, values: () => Tensor): Tensor {
  if (!empty) return parameter(values());
  return parameter(new Tensor(Storage.allocate("withEmptyWeights", 0), shape, "f32"));
}

/** Normal numbers of mean 0. */
export function normalInit(shape: Shape, std: number): Tensor {
  return make(shape, () => randn(shape, 0, std));
}

/** Uniform numbers in [−bound, bound). */
export function uniformInit(shape: Shape, bound: number): Tensor {
  return make(shape, () => rand(shape, -bound, bound));
}

/**
 * Kaiming's uniform numbers with a = √5, PyTorch's default for linear layers and PEFT's for
 * `lora_A`: uniform in ±1/√fanIn, fanIn being the last dimension (He et al. 2015, arXiv 1502.01852).
 */
export function kaimingUniformInit(shape: Shape): Tensor {
  return uniformInit(shape, 1 / Math.sqrt(shape[shape.length - 1] ?? 1));
}

/** One value everywhere. */
export function constantInit(shape: Shape, value: number): Tensor {
  return make(shape, () => full(shape, value));
}
