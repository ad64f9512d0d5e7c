// Rotary position embedding, Hugging Face's rotate_half convention: with h = d/2 and the angle
// φ = (offset + t)·theta^(−2j/d), the pair (x_j, x_(j+h)) turns by φ.
import type { Numbers } from "./arrays.ts";

export interface RopeOptions {
  /** Position of the first token. */
  offset?: number;
  theta?: number;
}

type Shape4 = readonly [B: number, T: number, H: number, d: number];

function turn(
  x: Numbers,
  [B, T, H, d]: Shape4,
  { offset = 0, theta = 10000 }: RopeOptions,
  sign: 1 | -1,
) {
  const y = new Float64Array(x.length);
  const half = d / 2;
  for (let row = 0; row < B * T * H; row++) {
    const t = Math.floor(row / H) % T;
    for (let j = 0; j < half; j++) {
      const angle = sign * (offset + t) * theta ** ((-2 * j) / d);
      const [a, b] = [x[row * d + j]!, x[row * d + j + half]!];
      y[row * d + j] = a * Math.cos(angle) - b * Math.sin(angle);
      y[row * d + j + half] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return y;
}

/** x [B, T, H, d]. */
export function rope(x: Numbers, shape: Shape4, options: RopeOptions = {}): Float64Array {
  return turn(x, shape, options, 1);
}

/** A rotation's gradient is the rotation back. */
export function ropeBackward(dy: Numbers, shape: Shape4, options: RopeOptions = {}): Float64Array {
  return turn(dy, shape, options, -1);
}
