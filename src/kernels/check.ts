// Checks that most ops share. Each throws before anything is allocated.
import { DTypeError, ShapeError, ValueError } from "../gpu/errors.ts";
import type { DType } from "../tensor/dtype.ts";
import { format, type Shape, sameShape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Throws DTypeError for what is no tensor, as JavaScript may pass it, and DisposedError for a freed one. */
export function checkTensor(op: string, arg: string, x: Tensor): void {
  if (!(x instanceof Tensor)) {
    const got = Array.isArray(x) ? "an array" : `${x as unknown}`;
    const hint = "Make one: `tensor(values)`.";
    throw new DTypeError({ op, arg, expected: "a Tensor", got, hint });
  }
  x.checkAlive(op, arg);
}

/** Throws DTypeError unless x has one of the types, and DisposedError if it was freed. */
export function checkDType(op: string, arg: string, x: Tensor, ...types: DType[]): void {
  checkTensor(op, arg, x);
  if (types.includes(x.dtype)) return;
  throw new DTypeError({
    op,
    arg,
    expected: types.join(" or "),
    got: x.dtype,
    hint: `Cast it: ${arg}.cast("${types[0]}").`,
  });
}

/** Throws ShapeError unless x has the shape. `dims` names the sizes: `[out, in]`. */
export function checkShapeIs(
  op: string,
  arg: string,
  x: Tensor,
  shape: Shape,
  dims?: string,
): void {
  if (sameShape(x.shape, shape)) return;
  const expected = dims ? `${dims} = ${format(shape)}` : format(shape);
  throw new ShapeError({ op, arg, expected, got: format(x.shape) });
}

/** Throws ShapeError unless x has the rank, or at least the rank where `orMore`. */
export function checkRank(
  op: string,
  arg: string,
  x: Tensor,
  rank: number,
  dims: string,
  orMore = false,
): void {
  if (x.rank === rank || (orMore && x.rank > rank)) return;
  throw new ShapeError({ op, arg, expected: dims, got: format(x.shape) });
}

/** Throws ValueError unless the word is one of those that the option knows. */
export function checkWord(op: string, arg: string, word: string, words: readonly string[]): void {
  if (words.includes(word)) return;
  const expected = words.map((w) => `"${w}"`).join(" or ");
  throw new ValueError({ op, arg, expected, got: JSON.stringify(word) });
}
