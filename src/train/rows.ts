// Rows: what fit trains on and what is held out, whatever made them.
import { ValueError } from "../gpu/errors.ts";

/** Token ids, and what to predict at each: both [rows · length], row-major; target −100 where none counts. */
export interface Rows {
  ids: Int32Array;
  targets: Int32Array;
  /** Of rows that hold several texts: where in its row the text of each token begins. In every step or in none. */
  starts?: Int32Array;
  /** Tokens per row, where steps differ in it. Absent: the `length` of what made them. */
  width?: number;
}

/** Where fit gets its batches. */
export interface TrainingRows {
  /** T, tokens per row, or the most where steps differ. */
  readonly length: number;
  /** A hash of all that `rows` depends on but for its arguments. */
  readonly fingerprint: string;
  /** The rows of a step: a pure function of seed and step, so that a run can go on where it ended. */
  rows(count: number, seed: number, step: number): Rows;
}

export interface Row {
  ids: Int32Array;
  /** The token that follows each; −100 where none counts. */
  targets: Int32Array;
  /** Where the text of each token begins; null where the row is one text. */
  starts: Int32Array | null;
}

/** Tokens behind one another: an array, or what is read from a file by place. */
export interface TokenText {
  readonly length: number;
  /** Tokens from … to − 1. */
  slice(from: number, to: number): ArrayLike<number>;
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

/** Rows behind one another. A row without starts among others with them is one text. */
export function stack(rows: readonly Row[], length: number, isPacked: boolean): Rows {
  const { ids, targets } = emptyRow(rows.length * length);
  const starts = isPacked ? new Int32Array(rows.length * length) : null;
  rows.forEach((row, i) => {
    ids.set(row.ids, i * length);
    targets.set(row.targets, i * length);
    if (row.starts) starts?.set(row.starts, i * length);
  });
  return starts ? { ids, targets, starts } : { ids, targets };
}

/** A row of padding alone. */
export function emptyRow(length: number): Row {
  const targets = new Int32Array(length).fill(IGNORED);
  return { ids: new Int32Array(length), targets, starts: null };
}

/** In a label or target: this token is read but not learnt. */
export const IGNORED = -100;

/** How many targets count. */
export function countedTargets(targets: Int32Array): number {
  let count = 0;
  for (const target of targets) if (target !== IGNORED) count += 1;
  return count;
}

/** Throws ValueError unless n is a positive integer. */
export function checkCount(op: string, arg: string, n: number): void {
  if (Number.isSafeInteger(n) && n > 0) return;
  throw new ValueError({ op, arg, expected: "a positive integer", got: `${n}` });
}
