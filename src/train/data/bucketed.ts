// Bucketing: examples of about one length together, in batches no wider than they need.
import { tensor } from "../../tensor/create.ts";
import { checkCount, emptyRow, type Rows, stack, type TrainingRows } from "../rows.ts";
import type { Batch } from "../windows.ts";
import type { ExampleSet } from "./example_set.ts";
import { permuted } from "./order.ts";
import { checkFits, placeExample, placesOf } from "./row_set.ts";
import { checkStep } from "./shuffled_rows.ts";

/** Batches among which examples are sorted by length. */
const POOL = 64;

export interface BucketOptions {
  /** Examples per batch. */
  batch: number;
  /** T, the widest that a batch may be. */
  length: number;
  seed?: number;
  /** Widths are multiples of it, so that few shapes occur. Default 32. */
  multiple?: number;
}

/**
 * Every example once an epoch: shuffled, sorted by length within pools of 64 batches, and the batches shuffled.
 * The last examples of an epoch that fill no batch have empty rows beside them.
 */
export class BucketedBatches {
  readonly stepsPerEpoch: number;
  /** The plan of the epoch asked for last: kept to save time, and made again from nothing but its number. */
  #plan: { epoch: number; batches: number[][] } | null = null;

  /** @throws ValueError for sizes that are no positive integers, or an example that is too long */
  constructor(
    readonly examples: ExampleSet,
    private readonly options: BucketOptions,
  ) {
    const { batch, length, multiple = 32 } = options;
    checkCount("BucketedBatches", "batch", batch);
    checkCount("BucketedBatches", "multiple", multiple);
    checkFits("BucketedBatches", examples, length);
    this.stepsPerEpoch = Math.ceil(examples.count / batch);
  }

  /**
   * The batch of a step, a pure function of its number.
   * @throws ValueError unless the step is 0, 1, …
   */
  at(step: number): Batch {
    const { ids, targets, width } = this.host(step);
    const shape = [this.options.batch, width];
    return { ids: tensor(ids, shape), targets: tensor(targets, shape) };
  }

  /** The same before it becomes tensors, and how many tokens wide it is. */
  host(step: number): Rows & { width: number } {
    checkStep("BucketedBatches", step);
    const { examples, stepsPerEpoch } = this;
    const { batch, length, multiple = 32 } = this.options;
    const chosen = this.#batches(Math.floor(step / stepsPerEpoch))[step % stepsPerEpoch]!;
    const longest = Math.max(...chosen.map((i) => placesOf(examples, i)));
    const width = Math.min(length, Math.ceil(longest / multiple) * multiple);
    const rows = Array.from({ length: batch }, () => emptyRow(width));
    chosen.forEach((example, i) => {
      placeExample(rows[i]!, examples, example, 0);
    });
    return { ...stack(rows, width, false), width };
  }

  #batches(epoch: number): number[][] {
    if (this.#plan?.epoch === epoch) return this.#plan.batches;
    const { examples, stepsPerEpoch } = this;
    const { batch, seed = 0 } = this.options;
    const n = examples.count;
    const sorted: number[][] = [];
    for (let from = 0; from < n; from += POOL * batch) {
      const size = Math.min(POOL * batch, n - from);
      const pool = Array.from({ length: size }, (_, i) => permuted(from + i, n, seed, epoch));
      pool.sort((a, b) => placesOf(examples, a) - placesOf(examples, b));
      for (let at = 0; at < size; at += batch) sorted.push(pool.slice(at, at + batch));
    }
    const batches = sorted.map(
      (_, i) => sorted[permuted(i, stepsPerEpoch, seed, epoch, 0x6275636b)]!,
    );
    this.#plan = { epoch, batches };
    return batches;
  }
}

/** How many widths bucketed rows have, at most: each is captured by itself. */
const WIDTHS = 16;

/**
 * Bucketed batches for `fit`: the rows of a step are one batch, as wide as its longest example needs, in one of at
 * most 16 widths.
 */
export class BucketedRows implements TrainingRows {
  readonly fingerprint: string;
  private readonly multiple: number;
  #made: { count: number; seed: number; batches: BucketedBatches } | null = null;

  /**
   * @param length  T, the widest that a batch may be
   * @throws ValueError where an example is longer
   */
  constructor(
    readonly examples: ExampleSet,
    readonly length: number,
  ) {
    checkFits("BucketedRows", examples, length);
    this.multiple = Math.ceil(length / WIDTHS);
    this.fingerprint = `bucketed ${length} ${examples.fingerprint}`;
  }

  rows(count: number, seed: number, step: number): Rows {
    const made = this.#made;
    if (made?.count === count && made.seed === seed) return made.batches.host(step);
    const { length, multiple } = this;
    const batches = new BucketedBatches(this.examples, { batch: count, length, seed, multiple });
    this.#made = { count, seed, batches };
    return batches.host(step);
  }
}
