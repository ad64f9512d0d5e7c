// Elementwise functions of one argument and their derivatives.
import { map, type Numbers } from "./arrays.ts";
import { erf } from "./erf.ts";
import { sigmoid } from "./silu.ts";

/** Rounds half to even, as NumPy and WGSL do. */
function roundEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
}

/** For each name: the function, and its derivative. */
const FUNCTIONS = {
  neg: [(x) => -x, () => -1],
  abs: [Math.abs, Math.sign],
  exp: [Math.exp, Math.exp],
  log: [Math.log, (x) => 1 / x],
  sqrt: [Math.sqrt, (x) => 0.5 / Math.sqrt(x)],
  rsqrt: [(x) => 1 / Math.sqrt(x), (x) => -0.5 / (x * Math.sqrt(x))],
  square: [(x) => x * x, (x) => 2 * x],
  reciprocal: [(x) => 1 / x, (x) => -1 / (x * x)],
  sin: [Math.sin, Math.cos],
  cos: [Math.cos, (x) => -Math.sin(x)],
  tanh: [Math.tanh, (x) => 1 / Math.cosh(x) ** 2],
  sigmoid: [sigmoid, (x) => sigmoid(x) * sigmoid(-x)],
  relu: [(x) => Math.max(x, 0), (x) => (x > 0 ? 1 : 0)],
  sign: [Math.sign, () => 0],
  floor: [Math.floor, () => 0],
  ceil: [Math.ceil, () => 0],
  round: [roundEven, () => 0],
  log1p: [Math.log1p, (x) => 1 / (1 + x)],
  expm1: [Math.expm1, Math.exp],
  erf: [erf, (x) => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x)],
  softplus: [(x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), sigmoid],
} satisfies Record<string, [(x: number) => number, (x: number) => number]>;

export type UnaryName = keyof typeof FUNCTIONS;

export const UNARY_NAMES = Object.keys(FUNCTIONS) as UnaryName[];

export function unary(name: UnaryName, x: Numbers): Float64Array {
  const f: (x: number) => number = FUNCTIONS[name][0];
  return map(x, (v) => f(v));
}

export function unaryBackward(name: UnaryName, dy: Numbers, x: Numbers): Float64Array {
  const slope: (x: number) => number = FUNCTIONS[name][1];
  return map(x, (v, i) => dy[i]! * slope(v));
}
