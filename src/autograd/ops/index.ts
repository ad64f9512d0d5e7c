// All differentiable ops, in alphabetical order.
export { attention } from "./attention.ts";
export { add, div, eq, ge, gt, le, lt, maximum, minimum, mul, ne, pow, sub } from "./binary.ts";
export { cast } from "./cast.ts";
export { concat } from "./concat.ts";
export { broadcastTo, permute, transpose } from "./copy.ts";
export { crossEntropy } from "./cross_entropy.ts";
export { dropout } from "./dropout.ts";
export { embedding } from "./embedding.ts";
export { gather, indexSelect } from "./gather.ts";
export { gelu } from "./gelu.ts";
export { layerNorm, layerNormAdd } from "./layer_norm.ts";
export { linear } from "./linear.ts";
export { type LinearCrossEntropyOptions, linearCrossEntropy } from "./linear_cross_entropy.ts";
export { loraGroups } from "./lora_groups.ts";
export {
  type LoraLinearLayer,
  type LoraLinearOptions,
  loraLinear,
  loraLinearEach,
} from "./lora_linear.ts";
export { loraMixed } from "./lora_mixed.ts";
export { matmul } from "./matmul.ts";
export { argmax, max, mean, min, sum, variance } from "./reduce.ts";
export { reshape, squeeze, unsqueeze } from "./reshape.ts";
export { rmsNorm, rmsNormAdd } from "./rms_norm.ts";
export { rope } from "./rope.ts";
export { silu } from "./silu.ts";
export { chunk, slice, split } from "./slice.ts";
export { logSoftmax, softmax } from "./softmax.ts";
export { swiglu } from "./swiglu.ts";
export {
  abs,
  ceil,
  clamp,
  cos,
  erf,
  exp,
  expm1,
  floor,
  log,
  log1p,
  neg,
  reciprocal,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  softplus,
  sqrt,
  square,
  tanh,
} from "./unary.ts";
export { where } from "./where.ts";
