// All differentiable ops, in alphabetical order.
export { attention } from "./attention.ts";
export { cast } from "./cast.ts";
export { crossEntropy } from "./cross_entropy.ts";
export { dropout } from "./dropout.ts";
export { embedding } from "./embedding.ts";
export { gather, indexSelect } from "./gather.ts";
export { gelu } from "./gelu.ts";
export { rmsNorm } from "./rms_norm.ts";
export { rope } from "./rope.ts";
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
