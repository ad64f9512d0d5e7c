// DoRA: the length of each row of the weights is learned apart (Liu et al. 2024, arXiv 2402.09353).
//   W' = g∘(W + s·B·A),  g = m/‖W + s·B·A‖, row by row; the norm counts as a constant for the gradient
import { noGrad } from "../autograd/graph.ts";
import { div } from "../autograd/ops/index.ts";
import { dequantized } from "../kernels/dequantize.ts";
import { doraNorm } from "../kernels/dora_norm.ts";
import { parameter } from "../tensor/create.ts";
import { scoped } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { LoraWeights } from "./lora_weights.ts";

function normOf(update: LoraWeights, weight: Tensor, transposed: boolean): Tensor {
  const { lora_A, lora_B, scaling } = update;
  return noGrad(() =>
    scoped(() => doraNorm(dequantized(weight), lora_A, lora_B, scaling, { transposed })),
  );
}

/** Gives an update its magnitudes, under which it changes nothing yet. */
export function addMagnitude(update: LoraWeights, weight: Tensor, transposed: boolean): void {
  update.lora_magnitude_vector = parameter(normOf(update, weight, transposed));
}

/** g [out], through which the magnitudes get their gradient. */
export function gainOf(update: LoraWeights, weight: Tensor, transposed: boolean): Tensor {
  return div(update.lora_magnitude_vector!, normOf(update, weight, transposed));
}
