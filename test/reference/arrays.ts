// Index arithmetic that the float64 references share. Independent of src/, which they judge.

/** Row-major values with their shape. */
export interface Array64 {
  data: Float64Array;
  shape: number[];
}

/** Numbers of any array type. */
export type Numbers = ArrayLike<number>;

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** The multi-index of flat position `at`. */
export function unravel(at: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length);
  for (let i = shape.length - 1; i >= 0; i--) {
    index[i] = at % shape[i]!;
    at = Math.floor(at / shape[i]!);
  }
  return index;
}

/** The flat position of a multi-index, aligned at the right; axes of size 1 repeat. */
export function ravel(index: readonly number[], shape: readonly number[]): number {
  const skip = index.length - shape.length;
  let at = 0;
  for (let i = 0; i < shape.length; i++) {
    at = at * shape[i]! + (shape[i] === 1 ? 0 : index[skip + i]!);
  }
  return at;
}

/** NumPy's broadcast of two shapes. */
export function broadcast(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) throw new Error(`cannot broadcast [${a}] with [${b}]`);
    return m === 1 ? n : m;
  });
}

/** Elementwise f over one array. */
export function map(x: Numbers, f: (x: number, i: number) => number): Float64Array {
  return Float64Array.from({ length: x.length }, (_, i) => f(x[i]!, i));
}
