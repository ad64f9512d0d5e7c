// Packing: short examples side by side in rows, so that few places are padding.
import { emptyRow, type Row, type RowSet } from "../rows.ts";
import type { ExampleSet } from "./example_set.ts";
import { permuted } from "./order.ts";
import { checkFits, placeExample, placesOf } from "./row_set.ts";

/**
 * Rows of whole examples, none of which sees another: `model.loss(ids, targets, { starts })`.
 * Each example, the longest first, goes into the fullest row that still has room (best fit); the seed decides
 * between equals.
 * @see Ding et al. 2024, arXiv 2404.10830
 */
export class PackedRows implements RowSet {
  readonly isPacked = true;
  readonly fingerprint: string;
  readonly count: number;
  /** The examples in order of rows, and where each row's end. */
  readonly #order: Int32Array;
  readonly #ends: Int32Array;

  /** @throws ValueError where an example is longer than a row */
  constructor(
    readonly examples: ExampleSet,
    readonly length: number,
    seed = 0,
  ) {
    checkFits("PackedRows", examples, length);
    const { order, ends } = bestFit(examples, length, seed);
    this.#order = order;
    this.#ends = ends;
    this.count = ends.length;
    this.fingerprint = `packed ${length} ${seed} ${examples.fingerprint}`;
  }

  /** The share of places that hold a token, in (0, 1]. */
  get filled(): number {
    const { tokens, count } = this.examples;
    return (tokens - count) / (this.count * this.length);
  }

  /** The examples of a row, in their order. */
  examplesOf(i: number): readonly number[] {
    return [...this.#order.subarray(i > 0 ? this.#ends[i - 1]! : 0, this.#ends[i]!)];
  }

  row(i: number): Row {
    const row = emptyRow(this.length);
    const starts = new Int32Array(this.length);
    let at = 0;
    for (const example of this.examplesOf(i)) {
      placeExample(row, this.examples, example, at);
      starts.fill(at, at, at + placesOf(this.examples, example));
      at += placesOf(this.examples, example);
    }
    starts.fill(at, at); // the padding, a text of its own
    return { ...row, starts };
  }
}

/** In flat arrays, about 20 bytes per example, for there may be many millions. */
function bestFit(
  examples: ExampleSet,
  length: number,
  seed: number,
): { order: Int32Array; ends: Int32Array } {
  const n = examples.count;
  const shuffled = Int32Array.from({ length: n }, (_, i) => permuted(i, n, seed, 0, 0x7061636b));
  shuffled.sort((a, b) => placesOf(examples, b) - placesOf(examples, a));
  const rowOf = new Int32Array(n); // by place in `shuffled`
  const top = new Int32Array(length + 1).fill(-1); // by room, the row that got it last
  const below = new Int32Array(n); // by row, the row that had the same room before it
  let rows = 0;
  shuffled.forEach((example, i) => {
    const needed = placesOf(examples, example);
    let room = needed;
    while (room <= length && top[room] === -1) room++;
    const row = room <= length ? top[room]! : rows++;
    if (room <= length) top[room] = below[row]!;
    rowOf[i] = row;
    const left = Math.min(room, length) - needed;
    below[row] = top[left]!;
    top[left] = row;
  });
  return dealt(shuffled, rowOf, rows);
}

/** What goes into each row, rows behind one another. */
function dealt(
  items: Int32Array,
  rowOf: Int32Array,
  rows: number,
): { order: Int32Array; ends: Int32Array } {
  const ends = new Int32Array(rows);
  for (const row of rowOf) ends[row]! += 1;
  for (let row = 1; row < rows; row++) ends[row]! += ends[row - 1]!;
  const next = new Int32Array(rows);
  next.set(ends.subarray(0, -1), 1);
  const order = new Int32Array(items.length);
  rowOf.forEach((row, i) => {
    order[next[row]!++] = items[i]!;
  });
  return { order, ends };
}
