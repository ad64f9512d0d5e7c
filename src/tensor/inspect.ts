// Printing: nested arrays and NumPy-like text.
import type { DType } from "./dtype.ts";
import { format, type Shape, sizeOf } from "./shape.ts";

export type Nested = number | Nested[];

/** Flat row-major values as nested arrays. */
export function nest(values: ArrayLike<number>, shape: Shape, offset = 0): Nested {
  const [n, ...rest] = shape;
  if (n === undefined) return values[offset]!;
  const step = sizeOf(rest);
  return Array.from({ length: n }, (_, i) => nest(values, rest, offset + i * step));
}

const EDGE = 3;
const LONG = 8;

/** Text such as `f32[2, 2] [[1, 2], [3, 4]]`, one row a line, long axes shortened to `…`. */
export function formatTensor(values: ArrayLike<number>, shape: Shape, dtype: DType): string {
  const number = (x: number) =>
    dtype === "i32" || dtype === "u32" ? `${x}` : `${Number(x.toPrecision(5))}`;
  const walk = (dims: Shape, offset: number, indent: string): string => {
    const [n, ...rest] = dims;
    if (n === undefined) return number(values[offset]!);
    const step = sizeOf(rest);
    const short = n > LONG;
    const at = short ? [0, 1, 2, n - EDGE, n - 2, n - 1] : Array.from({ length: n }, (_, i) => i);
    const parts = at.map((i) => walk(rest, offset + i * step, `${indent} `));
    if (short) parts.splice(EDGE, 0, "…");
    return `[${parts.join(rest.length > 0 ? `,\n${indent}` : ", ")}]`;
  };
  return `${dtype}${format(shape)} ${walk(shape, 0, " ".repeat(dtype.length + format(shape).length + 2))}`;
}
