// All differentiable ops. One line each, in alphabetical order.
export { attention } from "./attention.ts";
export { gelu } from "./gelu.ts";
