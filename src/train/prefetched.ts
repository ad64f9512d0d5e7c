// Prefetched: the rows of the next step, made while the GPU works on this one.
import type { Rows, TrainingRows } from "./rows.ts";

/** Rows by step. They are a pure function of the step, so that making them early changes nothing. */
export class Prefetched {
  private next: { step: number; rows: Rows } | null = null;

  /**
   * @param count  rows of a step
   * @param steps  how many steps there are: none is made beyond
   */
  constructor(
    private readonly source: TrainingRows,
    private readonly count: number,
    private readonly seed: number,
    private readonly steps: number,
  ) {}

  /** The rows of a step. */
  of(step: number): Rows {
    const { next } = this;
    this.next = null;
    return next?.step === step ? next.rows : this.source.rows(this.count, this.seed, step);
  }

  /** Makes the rows of a step ahead. What that throws, `of` throws when their turn has come. */
  prepare(step: number): void {
    if (step >= this.steps) return;
    try {
      this.next = { step, rows: this.source.rows(this.count, this.seed, step) };
    } catch {
      this.next = null;
    }
  }
}
