// RoPE: tables from the CPU, checks, output, dispatch. x, y: [B, T, H, d], cos, sin: [P, d/2]
import { ShapeError, ValueError } from "../gpu/errors.ts";
import { tensor } from "../tensor/create.ts";
import { format } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("rope");

/**
 * Cosines and sines of position · theta^(−2i/d), computed in float64. Both [positions, d/2].
 * @param positions  how many positions, from 0
 * @param d  width of a head, even
 */
export function ropeTables(
  positions: number,
  d: number,
  theta = 10000,
): { cos: Tensor; sin: Tensor } {
  if (!Number.isInteger(d / 2) || d <= 0) {
    throw new ValueError({ op: "rope", arg: "d", expected: "even and positive", got: `${d}` });
  }
  const half = d / 2;
  const frequencies = Float64Array.from({ length: half }, (_, i) => theta ** (-i / half));
  return angleTables(0, positions, frequencies);
}

/**
 * Cosines and sines of (first + row) · frequency, computed in float64. Both [rows, frequencies].
 * @param amplitude  factor of all
 */
export function angleTables(
  first: number,
  rows: number,
  frequencies: Float64Array,
  amplitude = 1,
): { cos: Tensor; sin: Tensor } {
  const half = frequencies.length;
  const cos = new Float32Array(rows * half);
  const sin = new Float32Array(rows * half);
  for (let p = 0; p < rows; p++) {
    for (let i = 0; i < half; i++) {
      const angle = (first + p) * frequencies[i]!;
      cos[p * half + i] = amplitude * Math.cos(angle);
      sin[p * half + i] = amplitude * Math.sin(angle);
    }
  }
  return { cos: tensor(cos, [rows, half]), sin: tensor(sin, [rows, half]) };
}

/** Turns x at positions offset … offset + T − 1, or back. */
export function ropeRotate(
  entry: "rope_forward" | "rope_backward",
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  offset: number,
): Tensor {
  checkDType("rope", "x", x, "f32");
  checkDType("rope", "cos", cos, "f32");
  checkDType("rope", "sin", sin, "f32");
  checkRank("rope", "x", x, 4, "[B, T, H, d]");
  checkRank("rope", "cos", cos, 2, "[positions, d/2]");
  checkShapeIs("rope", "sin", sin, cos.shape);
  const [, T, H, d] = x.shape as [number, number, number, number];
  const [positions, half] = cos.shape as [number, number];
  if (d !== 2 * half) {
    const expected = `[B, T, H, ${2 * half}], twice as wide as the tables`;
    throw new ShapeError({ op: "rope", arg: "x", expected, got: format(x.shape) });
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || offset + T > positions) {
    const expected = `in [0, ${positions - T}], for the tables hold ${positions} positions`;
    throw new ValueError({ op: "rope", arg: "offset", expected, got: `${offset}` });
  }
  const y = Tensor.empty(entry, x.shape, "f32");
  kernel.run(entry, {
    tensors: { x, cosines: cos, sines: sin, y },
    params: { n: x.size / 2, T, H, half, offset, sign: entry === "rope_forward" ? 1 : -1 },
    groups: grid(Math.ceil(x.size / 128)),
  });
  return y;
}
