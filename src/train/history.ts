// History: what every step of a run came to.
import type { Look } from "./fit_options.ts";
import type { StepFacts } from "./train_step.ts";

export class History {
  losses: number[] = [];
  gradNorms: number[] = [];
  stepMs: number[] = [];
  valid: Look[] = [];
  /** Steps, counted from 1, that moved nothing. */
  skipped: number[] = [];
  /** Steps done before this call. */
  before = 0;
  /** That the steps of this call took. */
  seconds = 0;

  /** Steps done. */
  get step(): number {
    return this.losses.length;
  }

  /** Steps done in this call. */
  get own(): number {
    return this.step - this.before;
  }

  /** Looks at a set since that of this step. */
  looksSince(step: number, set: string): number {
    return this.valid.filter((look) => look.set === set && look.step > step).length;
  }

  add({ loss, gradNorm }: StepFacts, ms: number): void {
    this.losses.push(loss);
    this.gradNorms.push(gradNorm);
    this.stepMs.push(ms);
    this.seconds += ms / 1000;
  }

  /** The numbers of each step, by the names that checkpoints give them. */
  series(): Record<string, readonly number[]> {
    return { losses: this.losses, grad_norms: this.gradNorms, step_ms: this.stepMs };
  }

  /** Takes over what `series` gave, and the rest. */
  restore(
    series: Readonly<Record<string, ArrayLike<number>>>,
    valid: Look[],
    skipped: number[],
  ): void {
    this.losses = Array.from(series.losses!);
    this.gradNorms = Array.from(series.grad_norms!);
    this.stepMs = Array.from(series.step_ms!);
    this.valid = valid;
    this.skipped = skipped;
    this.before = this.losses.length;
  }
}
