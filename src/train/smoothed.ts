// Smoothed: the loss without its noise.

/**
 * Exponential moving average that begins unbiased: e ← β·e + (1 − β)·x, shown as e/(1 − βⁿ).
 * Numbers that are not finite are left out.
 */
export class Smoothed {
  private sum = 0;
  private weight = 0;

  /** @param beta  how much of the past stays, in [0, 1) */
  constructor(private readonly beta: number) {}

  /** Takes a number in and gives the mean now; NaN before the first finite one. */
  add(x: number): number {
    if (Number.isFinite(x)) {
      this.sum = this.beta * this.sum + (1 - this.beta) * x;
      this.weight = this.beta * this.weight + (1 - this.beta);
    }
    return this.value;
  }

  get value(): number {
    return this.sum / this.weight;
  }
}
