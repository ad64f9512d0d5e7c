// All differentiable ops. One line each, in alphabetical order.
export { gelu } from "./gelu.ts";
