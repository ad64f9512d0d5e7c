// Central differences, which judge the gradients of the references.
import type { Numbers } from "./arrays.ts";

/** Gradient of Σ dy·f(x) by x: (f(x + h) − f(x − h)) / 2h for each element in turn. */
export function finiteDifference(
  f: (x: Float64Array) => Numbers,
  x: Numbers,
  dy: Numbers,
): Float64Array {
  const at = Float64Array.from(x);
  const probe = (i: number, value: number) => {
    at[i] = value;
    const y = f(at);
    let sum = 0;
    for (let k = 0; k < y.length; k++) sum += dy[k]! * y[k]!;
    at[i] = x[i]!;
    return sum;
  };
  return Float64Array.from({ length: x.length }, (_, i) => {
    const h = 1e-5 * Math.max(1, Math.abs(x[i]!));
    return (probe(i, x[i]! + h) - probe(i, x[i]! - h)) / (2 * h);
  });
}

/** Throws where a gradient differs from central differences by more than `bound` of the largest. */
export function checkGradient(
  what: string,
  f: (x: Float64Array) => Numbers,
  x: Numbers,
  dy: Numbers,
  gradient: Numbers,
  bound = 1e-7,
): void {
  const expected = finiteDifference(f, x, dy);
  if (gradient.length !== expected.length) {
    throw new Error(`${what}: ${gradient.length} gradients for ${expected.length} elements`);
  }
  const scale = expected.reduce((most, g) => Math.max(most, Math.abs(g)), 1);
  expected.forEach((g, i) => {
    const error = Math.abs(gradient[i]! - g);
    // Written so that NaN fails.
    if (error <= bound * scale) return;
    throw new Error(`${what}[${i}]: differences give ${g}, the formula ${gradient[i]}`);
  });
}
