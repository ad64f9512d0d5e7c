import { ValueError } from "../../gpu/errors.ts";
import { type UnaryName, unaryBackward, unaryForward } from "../../kernels/unary.ts";
import { zeros } from "../../tensor/create.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

/** A function of x alone, [...] → [...], f32. Saves x. */
const unary = (name: UnaryName) =>
  op(name, {
    forward: (x: Tensor) => [unaryForward(name, x), { x }],
    backward: (dy, { x }) => [unaryBackward(name, dy, x)],
  });

/** A step function: its gradient is 0 wherever it has one. */
const step = (name: UnaryName) =>
  op(name, {
    forward: (x: Tensor) => [unaryForward(name, x), {}],
    backward: (dy) => [zeros(dy.shape)],
  });

/** −x. */
export const neg = op("neg", {
  forward: (x: Tensor) => [unaryForward("neg", x), {}],
  backward: (dy) => [unaryForward("neg", dy)],
});
/** |x|; the gradient at 0 is 0. */
export const abs = unary("abs");
/** eˣ; saturates at the largest finite number. */
export const exp = unary("exp");
/** Natural logarithm. */
export const log = unary("log");
export const sqrt = unary("sqrt");
/** 1 / √x. */
export const rsqrt = unary("rsqrt");
/** x². */
export const square = unary("square");
/** 1 / x. */
export const reciprocal = unary("reciprocal");
/** Accurate for |x| up to about 10,000. */
export const sin = unary("sin");
/** Accurate for |x| up to about 10,000. */
export const cos = unary("cos");
export const tanh = unary("tanh");
/** 1 / (1 + e⁻ˣ). */
export const sigmoid = unary("sigmoid");
/** max(x, 0); the gradient at 0 is 0. */
export const relu = unary("relu");
/** −1, 0 or 1. */
export const sign = step("sign");
export const floor = step("floor");
export const ceil = step("ceil");
/** To the nearest integer, halves to the even one. */
export const round = step("round");
/** log(1 + x), accurate for small x. */
export const log1p = unary("log1p");
/** eˣ − 1, accurate for small x. */
export const expm1 = unary("expm1");
/** The error function. */
export const erf = unary("erf");
/** log(1 + eˣ). */
export const softplus = unary("softplus");

const clampOp = op("clamp", {
  forward: (x: Tensor, low: number, high: number) => [
    unaryForward("clamp", x, { low, high }),
    { x, low, high },
  ],
  backward: (dy, { x, low, high }) => [unaryBackward("clamp", dy, x, { low, high })],
});

const LARGEST = 3.4028234663852886e38;

/**
 * x held within [low, high]; the gradient is 1 there, bounds included, and 0 outside.
 * @throws ValueError where low > high, or one is NaN
 */
export function clamp(x: Tensor, low = -LARGEST, high = LARGEST): Tensor {
  if (low <= high) return clampOp(x, Math.max(low, -LARGEST), Math.min(high, LARGEST));
  const expected = `at most high = ${high}`;
  throw new ValueError({ op: "clamp", arg: "low", expected, got: `${low}` });
}
