// A matrix that may be larger than one binding, as ranges of its rows that are not.
import { gpu } from "../gpu/device.ts";
import { LimitError } from "../gpu/errors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { rowsBetween } from "./axes.ts";

/** Ranges begin at multiples of so many rows: of 2 bytes an element and more, that is where a binding may. */
const ROW_STEP = 128;

export interface RowRange {
  /** The first row. */
  first: number;
  /** One more than the last. */
  end: number;
  /** The rows, a view of the matrix; the matrix itself where one binding holds it. */
  part: Tensor;
}

/** Whether one binding cannot hold it. */
export function inRanges(x: Tensor): boolean {
  const { gpu: device, byteLength } = x.storage;
  return byteLength > device.bindingLimit;
}

/**
 * The rows of a matrix in as few ranges as bindings allow; they keep its memory alive.
 * @param x  [rows, ...] of f32, f16 or bf16
 * @param madeBytes  size of what is made of all rows, where a binding must hold what is made of a range too
 * @throws LimitError where a binding does not hold 128 rows
 */
export function rowRanges(op: string, x: Tensor, madeBytes = 0): RowRange[] {
  const rows = x.shape[0]!;
  const limit = gpu(op).bindingLimit;
  const bytes = Math.max(x.storage.byteLength, madeBytes);
  if (bytes <= limit) return [{ first: 0, end: rows, part: x }];
  const rowBytes = Math.max(x.bytes, madeBytes) / rows;
  const most = Math.floor(limit / rowBytes / ROW_STEP) * ROW_STEP;
  if (most === 0) {
    const expected = `of rows of at most ${Math.floor(limit / ROW_STEP)} bytes on this device`;
    throw new LimitError({ op, arg: "the matrix", expected, got: `rows of ${rowBytes}` });
  }
  const ranges: RowRange[] = [];
  for (let first = 0; first < rows; first += most) {
    const end = Math.min(first + most, rows);
    ranges.push({ first, end, part: rowsBetween(x, first, end) });
  }
  return ranges;
}
