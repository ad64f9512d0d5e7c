// All differentiable ops, in alphabetical order.
export { attention } from "./attention.ts";
export { crossEntropy } from "./cross_entropy.ts";
export { dropout } from "./dropout.ts";
export { gelu } from "./gelu.ts";
export { rmsNorm } from "./rms_norm.ts";
export { rope } from "./rope.ts";
export { swiglu } from "./swiglu.ts";
