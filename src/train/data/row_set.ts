// RowSet: data cut to rows of one width. A row holds an example, several of them, or a window of a text.
import { ValueError } from "../../gpu/errors.ts";
import { checkCount, type Windows } from "../windows.ts";
import { IGNORED } from "./encode.ts";
import type { ExampleSet } from "./example_set.ts";
import { ContentHash } from "./hash.ts";

export interface Row {
  ids: Int32Array;
  /** The token that follows each; −100 where none counts. */
  targets: Int32Array;
  /** Where the text of each token begins; null where the row is one text. */
  starts: Int32Array | null;
}

/** Rows of one width, in an order that never changes. */
export interface RowSet {
  readonly count: number;
  /** T, tokens in a row. */
  readonly length: number;
  /** Whether rows hold several texts, and so have `starts`. */
  readonly isPacked: boolean;
  readonly fingerprint: string;
  row(i: number): Row;
}

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

/** Consecutive windows of a text, none of which overlaps another. */
export class WindowRows implements RowSet {
  readonly isPacked = false;
  readonly count: number;
  readonly length: number;
  readonly fingerprint: string;

  constructor(readonly windows: Windows) {
    const { tokens, length } = windows;
    this.length = length;
    this.count = Math.floor((tokens.length - 1) / length);
    this.fingerprint = `windows ${length} ${fingerprintOf(tokens)}`;
  }

  row(i: number): Row {
    const { tokens, length } = this.windows;
    const from = i * length;
    const cut = (shift: number) => Int32Array.from({ length }, (_, k) => tokens[from + shift + k]!);
    return { ids: cut(0), targets: cut(1), starts: null };
  }
}

function fingerprintOf(tokens: ArrayLike<number>): string {
  const hash = new ContentHash();
  for (let i = 0; i < tokens.length; i++) hash.add(tokens[i]!);
  return hash.hex();
}

/** A row of padding alone. */
export function emptyRow(length: number): Row {
  const targets = new Int32Array(length).fill(IGNORED);
  return { ids: new Int32Array(length), targets, starts: null };
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
