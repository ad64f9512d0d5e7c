// Arithmetic on shapes: sizes, strides, broadcasting, axes. No data, no device.
import { ShapeError, ValueError } from "../gpu/errors.ts";

export type Shape = readonly number[];

const MAX_RANK = 6;

/** Number of elements. The empty shape is a scalar and has one. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** `[2, 3]`, for messages. */
export function format(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Throws unless every dimension is a non-negative integer and there are at most six. */
export function checkShape(op: string, shape: Shape): void {
  const good = shape.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (good && shape.length <= MAX_RANK && sizeOf(shape) <= 0xffffffff) return;
  throw new ShapeError({
    op,
    arg: "shape",
    expected: `at most ${MAX_RANK} non-negative integers with a product below 2^32`,
    got: format(shape),
  });
}

/** Strides in elements of a contiguous row-major array. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** The common shape of two arrays under NumPy's rules. Throws ShapeError naming both. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) {
      throw new ShapeError({
        op,
        arg: "b",
        expected: `broadcastable with a = ${format(a)}`,
        got: format(b),
        hint: "From the right, sizes must be equal or 1.",
      });
    }
    out[i] = m === 1 ? n : m;
  }
  return out;
}

/** Strides with which an array of `shape` is read as if it had shape `out`; 0 where it repeats. */
export function broadcastStrides(shape: Shape, out: Shape): number[] {
  const own = stridesOf(shape);
  return out.map((_, i) => {
    const j = i - (out.length - shape.length);
    return j < 0 || shape[j] === 1 ? 0 : own[j]!;
  });
}

/**
 * Merges neighbouring dimensions that all the given stride lists walk as one, so that most
 * broadcasts need a single dimension or two. Dimensions of size 1 vanish.
 */
export function coalesce(
  shape: Shape,
  ...lists: number[][]
): { shape: number[]; strides: number[][] } {
  const dims: number[] = [];
  const strides: number[][] = lists.map(() => []);
  shape.forEach((n, i) => {
    if (n === 1) return;
    const last = dims.length - 1;
    const joins = last >= 0 && lists.every((s, k) => strides[k]![last] === s[i]! * n);
    if (joins) dims[last] = dims[last]! * n;
    else dims.push(n);
    const at = dims.length - 1;
    lists.forEach((s, k) => {
      strides[k]![at] = s[i]!;
    });
  });
  return { shape: dims, strides };
}

/** Turns negative axes positive and checks them. */
export function normalizeAxis(op: string, axis: number, rank: number, arg = "axis"): number {
  const at = axis < 0 ? axis + rank : axis;
  if (Number.isInteger(at) && at >= 0 && at < rank) return at;
  const expected = rank === 0 ? "absent, for a scalar has no axes" : `in [${-rank}, ${rank - 1}]`;
  throw new ValueError({ op, arg, expected, got: `${axis}` });
}

/** Sorted, distinct, positive axes; all of them where none are named. */
export function normalizeAxes(
  op: string,
  axes: number | Shape | undefined,
  rank: number,
): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof axes === "number" ? [axes] : [...axes]).map((a) =>
    normalizeAxis(op, a, rank, "axes"),
  );
  list.sort((a, b) => a - b);
  if (list.every((a, i) => a !== list[i - 1])) return list;
  throw new ValueError({ op, arg: "axes", expected: "distinct", got: format(list) });
}
