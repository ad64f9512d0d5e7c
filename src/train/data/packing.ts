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
  readonly #rows: number[][];

  /** @throws ValueError where an example is longer than a row */
  constructor(
    readonly examples: ExampleSet,
    readonly length: number,
    seed = 0,
  ) {
    checkFits("PackedRows", examples, length);
    this.#rows = bestFit(examples, length, seed);
    this.fingerprint = `packed ${length} ${seed} ${examples.fingerprint}`;
  }

  get count(): number {
    return this.#rows.length;
  }

  /** The share of places that hold a token, in (0, 1]. */
  get filled(): number {
    const { tokens, count } = this.examples;
    return (tokens - count) / (this.count * this.length);
  }

  /** The examples of a row, in their order. */
  examplesOf(i: number): readonly number[] {
    return this.#rows[i]!;
  }

  row(i: number): Row {
    const row = emptyRow(this.length);
    const starts = new Int32Array(this.length);
    let at = 0;
    for (const example of this.#rows[i]!) {
      placeExample(row, this.examples, example, at);
      starts.fill(at, at, at + placesOf(this.examples, example));
      at += placesOf(this.examples, example);
    }
    starts.fill(at, at); // the padding, a text of its own
    return { ...row, starts };
  }
}

function bestFit(examples: ExampleSet, length: number, seed: number): number[][] {
  const n = examples.count;
  const shuffled = Array.from({ length: n }, (_, i) => permuted(i, n, seed, 0, 0x7061636b));
  shuffled.sort((a, b) => placesOf(examples, b) - placesOf(examples, a));
  const rows: number[][] = [];
  const byRoom: number[][] = Array.from({ length: length + 1 }, () => []); // rows by their room
  for (const example of shuffled) {
    const needed = placesOf(examples, example);
    let room = needed;
    while (room <= length && byRoom[room]!.length === 0) room++;
    const row = byRoom[room]?.pop() ?? rows.push([]) - 1;
    rows[row]!.push(example);
    byRoom[Math.min(room, length) - needed]!.push(row);
  }
  return rows;
}
