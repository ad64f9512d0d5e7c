// softmax(x)_i = e^(x_i) / Σ_j e^(x_j) and its logarithm, along one axis.
import { type Numbers, sizeOf } from "./arrays.ts";

/** Calls `visit` with the flat positions of every line along `axis`. */
function lines(shape: readonly number[], axis: number, visit: (at: number[]) => void): void {
  const d = axis < 0 ? axis + shape.length : axis;
  const inner = sizeOf(shape.slice(d + 1));
  const outer = sizeOf(shape.slice(0, d));
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      visit(Array.from({ length: shape[d]! }, (_, k) => (o * shape[d]! + k) * inner + i));
    }
  }
}

export function logSoftmax(x: Numbers, shape: readonly number[], axis = -1): Float64Array {
  const y = new Float64Array(x.length);
  lines(shape, axis, (line) => {
    const max = line.reduce((m, i) => Math.max(m, x[i]!), -Infinity);
    const sum = line.reduce((s, i) => s + Math.exp(x[i]! - max), 0);
    for (const i of line) y[i] = x[i]! - max - Math.log(sum);
  });
  return y;
}

export function softmax(x: Numbers, shape: readonly number[], axis = -1): Float64Array {
  return logSoftmax(x, shape, axis).map(Math.exp);
}

/** dx = y·(dy − Σ dy·y). */
export function softmaxBackward(
  dy: Numbers,
  x: Numbers,
  shape: readonly number[],
  axis = -1,
): Float64Array {
  const y = softmax(x, shape, axis);
  const dx = new Float64Array(x.length);
  lines(shape, axis, (line) => {
    const dot = line.reduce((s, i) => s + dy[i]! * y[i]!, 0);
    for (const i of line) dx[i] = y[i]! * (dy[i]! - dot);
  });
  return dx;
}

/** dx = dy − softmax(x)·Σ dy. */
export function logSoftmaxBackward(
  dy: Numbers,
  x: Numbers,
  shape: readonly number[],
  axis = -1,
): Float64Array {
  const p = softmax(x, shape, axis);
  const dx = new Float64Array(x.length);
  lines(shape, axis, (line) => {
    const sum = line.reduce((s, i) => s + dy[i]!, 0);
    for (const i of line) dx[i] = dy[i]! - p[i]! * sum;
  });
  return dx;
}
