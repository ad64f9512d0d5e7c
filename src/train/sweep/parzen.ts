// Parzen estimators: a density over one setting made of the values that trials had.
import type { Draws } from "./draws.ts";
import { axisOf, type Dimension, fromAxis, type Range, same, toAxis, type Value } from "./space.ts";

export interface Density {
  draw(draws: Draws): Value;
  /** ln of the density, or of the probability where values are few. */
  logAt(value: Value): number;
}

/** The density of a setting; the even one where there are no values. */
export function densityOf(dimension: Dimension, values: readonly Value[]): Density {
  if (dimension.kind !== "choice") return new Mixture(dimension, values as readonly number[]);
  const { values: all } = dimension;
  const indexOf = (value: Value) => all.findIndex((v) => same(v, value));
  const weights = all.map(() => 1);
  for (const value of values) weights[indexOf(value)]! += 1;
  const sum = weights.reduce((a, b) => a + b, 0);
  return {
    draw: (draws) => all[draws.index(weights)]!,
    logAt: (value) => Math.log(weights[indexOf(value)]! / sum),
  };
}

interface Bell {
  mean: number;
  deviation: number;
  /** Its mass within the bounds. */
  mass: number;
}

/**
 * Normal distributions of equal weight, cut off at the bounds: one about each value, as wide as the distance
 * to its farther neighbour, and a prior as wide as the range about its middle.
 */
class Mixture implements Density {
  private readonly low: number;
  private readonly high: number;
  private readonly bells: Bell[];

  constructor(
    private readonly range: Range,
    values: readonly number[],
  ) {
    [this.low, this.high] = axisOf(range);
    const { low, high } = this;
    const width = high - low;
    const prior = { mean: (low + high) / 2, isPrior: true };
    const own = values.map((value) => ({ mean: toAxis(range, value), isPrior: false }));
    const sorted = [...own, prior].sort((a, b) => a.mean - b.mean);
    const least = width / Math.min(100, sorted.length + 1);
    this.bells = sorted.map(({ mean, isPrior }, i) => {
      const left = mean - (sorted[i - 1]?.mean ?? mean);
      const right = (sorted[i + 1]?.mean ?? mean) - mean;
      const deviation = isPrior ? width : Math.min(width, Math.max(left, right, least));
      return { mean, deviation, mass: between(mean, deviation, low, high) };
    });
  }

  draw(draws: Draws): Value {
    const { low, high, bells } = this;
    const { mean, deviation } = bells[draws.index(bells.map(() => 1))]!;
    for (;;) {
      const place = mean + deviation * draws.normal();
      if (place >= low && place <= high) return fromAxis(this.range, place);
    }
  }

  logAt(value: Value): number {
    const place = toAxis(this.range, value as number);
    let sum = 0;
    for (const bell of this.bells) sum += this.of(bell, place, value as number) / bell.mass;
    return Math.log(sum / this.bells.length + Number.MIN_VALUE);
  }

  /** An integer has the mass of all that is rounded to it. */
  private of({ mean, deviation }: Bell, place: number, value: number): number {
    if (this.range.kind.endsWith("integer")) {
      const { range } = this;
      return between(mean, deviation, toAxis(range, value - 0.5), toAxis(range, value + 0.5));
    }
    const z = (place - mean) / deviation;
    return Math.exp(-0.5 * z * z) / (deviation * Math.sqrt(2 * Math.PI));
  }
}

/** Mass of a normal distribution between two places. */
function between(mean: number, deviation: number, low: number, high: number): number {
  const below = (x: number) => 0.5 * (1 + erf((x - mean) / (deviation * Math.SQRT2)));
  return below(high) - below(low);
}

/** The error function to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26). */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
  const y = 1 - series.reduce((sum, c) => sum * t + c, 0) * t * Math.exp(-x * x);
  return x < 0 ? -y : y;
}
