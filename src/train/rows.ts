// Rows: what fit trains on, whatever made it.

/** Token ids, and what to predict at each: both [rows · length], row-major; target −100 where none counts. */
export interface Rows {
  ids: Int32Array;
  targets: Int32Array;
  /** Of rows that hold several texts: where in its row the text of each token begins. In every step or in none. */
  starts?: Int32Array;
}

/** Where fit gets its batches. */
export interface TrainingRows {
  /** T, tokens per row. */
  readonly length: number;
  /** The rows of a step: a pure function of seed and step, so that a run can go on where it ended. */
  rows(count: number, seed: number, step: number): Rows;
  /** A hash of all that `rows` depends on but for its arguments. */
  fingerprint(): Promise<string>;
}

/** How many targets count. */
export function countedTargets(targets: Int32Array): number {
  let count = 0;
  for (const target of targets) if (target !== -100) count += 1;
  return count;
}
