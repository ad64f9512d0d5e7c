// gelu(x) = x·Φ(x), or 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
import { map, type Numbers } from "./arrays.ts";
import { erfc } from "./erf.ts";

export type Form = "none" | "tanh";

const C = Math.sqrt(2 / Math.PI);

export function gelu(x: Numbers, form: Form): Float64Array {
  return map(x, (v) =>
    form === "none"
      ? 0.5 * v * erfc(-v / Math.SQRT2)
      : 0.5 * v * (1 + Math.tanh(C * (v + 0.044715 * v ** 3))),
  );
}

export function geluBackward(dy: Numbers, x: Numbers, form: Form): Float64Array {
  return map(x, (v, i) => {
    if (form === "none") {
      const density = Math.exp(-0.5 * v * v) / Math.sqrt(2 * Math.PI);
      return dy[i]! * (0.5 * erfc(-v / Math.SQRT2) + v * density);
    }
    const t = Math.tanh(C * (v + 0.044715 * v ** 3));
    const slope = C * (1 + 3 * 0.044715 * v * v);
    return dy[i]! * (0.5 * (1 + t) + 0.5 * v * (1 - t) * (1 + t) * slope);
  });
}
