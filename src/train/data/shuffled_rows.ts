// ShuffledRows: what fit trains on. Every row once an epoch, in an order of that epoch's own; a second data set mixed in.
import { ValueError } from "../../gpu/errors.ts";
import { tensor } from "../../tensor/create.ts";
import { checkCount, type Row, type RowSet, type Rows, stack, type TrainingRows } from "../rows.ts";
import type { Batch } from "../windows.ts";
import { permuted } from "./order.ts";
import { checkShare } from "./split.ts";

/** A second data set against forgetting, and the share of rows that are its own, in (0, 1). */
export interface Replay {
  rows: RowSet;
  share: number;
}

/**
 * Rows shuffled anew each epoch; a step may hold the end of one epoch and the start of the next. All is a pure
 * function of seed and step: to go on, the step's number is enough.
 * With `replay`, floor((step + 1)·share·count) − floor(step·share·count) of a step's rows, its last ones, are of the
 * second data set, which has epochs of its own: over any steps the share is met to within a row.
 * @see replay: Rolnick et al. 2019, arXiv 1811.11682
 */
export class ShuffledRows implements TrainingRows {
  readonly length: number;
  readonly isPacked: boolean;

  /** @throws ValueError for a share out of range, and for rows of two lengths */
  constructor(
    readonly set: RowSet,
    readonly replay: Replay | null = null,
  ) {
    if (replay) checkReplay(set, replay);
    this.length = set.length;
    this.isPacked = set.isPacked || (replay?.rows.isPacked ?? false);
  }

  /** Differs where the data, their packing or their shares differ. */
  get fingerprint(): string {
    const { set, replay } = this;
    return replay
      ? `${set.fingerprint} and ${replay.share} of ${replay.rows.fingerprint}`
      : set.fingerprint;
  }

  /** How many rows of the second data set come before a step, at so many rows a step. */
  replayedBefore(step: number, count: number): number {
    return Math.floor(step * count * (this.replay?.share ?? 0));
  }

  /**
   * The rows of a step.
   * @param count  how many, the same in every step
   * @throws ValueError unless count is a positive integer and step 0, 1, …
   */
  rows(count: number, seed: number, step: number): Rows {
    checkCount("ShuffledRows", "count", count);
    checkStep("ShuffledRows", step);
    const before = this.replayedBefore(step, count);
    const replayed = this.replayedBefore(step + 1, count) - before;
    const drawn: Row[] = [];
    for (let j = 0; j < count - replayed; j++) {
      drawn.push(nextRow(this.set, step * count - before + j, seed, 0));
    }
    for (let j = 0; j < replayed; j++) {
      drawn.push(nextRow(this.replay!.rows, before + j, seed, 1));
    }
    return stack(drawn, this.length, this.isPacked);
  }

  /** The rows of a step as tensors, for a training loop of one's own. */
  batch(count: number, seed: number, step: number): Batch {
    const { ids, targets, starts } = this.rows(count, seed, step);
    const shape = [count, this.length];
    const batch = { ids: tensor(ids, shape), targets: tensor(targets, shape) };
    return starts ? { ...batch, starts: tensor(starts, shape) } : batch;
  }
}

/** The n-th row that is drawn of a data set, epoch after epoch. */
function nextRow(set: RowSet, n: number, seed: number, stream: number): Row {
  const epoch = Math.floor(n / set.count);
  return set.row(permuted(n % set.count, set.count, seed, epoch, stream));
}

/** Throws ValueError unless the step is 0, 1, … */
export function checkStep(op: string, step: number): void {
  if (Number.isSafeInteger(step) && step >= 0) return;
  throw new ValueError({ op, arg: "step", expected: "a non-negative integer", got: `${step}` });
}

function checkReplay(set: RowSet, { rows, share }: Replay): void {
  checkShare("ShuffledRows", "replay.share", share);
  if (rows.length === set.length) return;
  const expected = `of ${set.length} tokens, as those of the first data set`;
  throw new ValueError({ op: "ShuffledRows", arg: "replay.rows", expected, got: `${rows.length}` });
}
