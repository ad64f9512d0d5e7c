// Padded rows, and how an example is put into a row.
import { ValueError } from "../../gpu/errors.ts";
import { checkCount, emptyRow, type Row, type RowSet } from "../rows.ts";
import type { ExampleSet } from "./example_set.ts";

/** An example a row, with padding behind it. */
export class PaddedRows implements RowSet {
  readonly isPacked = false;
  readonly count: number;
  readonly fingerprint: string;

  /** @throws ValueError where an example is longer than a row */
  constructor(
    readonly examples: ExampleSet,
    readonly length: number,
  ) {
    checkFits("PaddedRows", examples, length);
    this.count = examples.count;
    this.fingerprint = `padded ${length} ${examples.fingerprint}`;
  }

  row(i: number): Row {
    const row = emptyRow(this.length);
    placeExample(row, this.examples, i, 0);
    return row;
  }
}

/** Tokens that an example takes in a row: the last one is only a target. */
export const placesOf = (examples: ExampleSet, i: number) => Math.max(0, examples.sizeOf(i) - 1);

/** Writes an example's tokens, and what follows each, into a row from a place on. */
export function placeExample(row: Row, examples: ExampleSet, i: number, at: number): void {
  const { ids, labels } = examples.at(i);
  row.ids.set(ids.subarray(0, -1), at);
  row.targets.set(labels.subarray(1), at);
}

/** Throws ValueError unless there are examples and each fits into a row. */
export function checkFits(op: string, examples: ExampleSet, length: number): void {
  checkCount(op, "length", length);
  const refuse = (expected: string, got: string) =>
    new ValueError({ op, arg: "examples", expected, got });
  if (examples.count === 0) throw refuse("at least one", "none");
  for (let i = 0; i < examples.count; i++) {
    if (placesOf(examples, i) <= length) continue;
    throw refuse(`of at most ${length + 1} tokens`, `one of ${examples.sizeOf(i)}`);
  }
}
