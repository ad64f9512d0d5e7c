// Draws: random numbers that belong to a trial, whatever was drawn before it.
import { philox4x32 } from "../../tensor/philox.ts";

const TAG = 0x73776570; // "swep": numbers apart from those of weights and data

/** The numbers of one trial: a pure function of the sweep's seed, the trial and how many were drawn. */
export class Draws {
  private drawn = 0;

  constructor(
    private readonly seed: number,
    private readonly trial: number,
  ) {}

  /** In [0, 1). */
  uniform(): number {
    const counter = [this.trial >>> 0, this.drawn++ >>> 0, 0, 0] as const;
    const [high, low] = philox4x32([...counter], [this.seed >>> 0, TAG]);
    return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
  }

  /** Of mean 0 and variance 1 (Box and Muller 1958). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** An index with a probability in proportion to its weight. */
  index(weights: readonly number[]): number {
    const sum = weights.reduce((a, b) => a + b, 0);
    let left = this.uniform() * sum;
    const found = weights.findIndex((weight) => {
      left -= weight;
      return left < 0;
    });
    return found < 0 ? weights.length - 1 : found;
  }
}
