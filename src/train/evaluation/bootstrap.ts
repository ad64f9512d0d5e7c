// Bootstrapped intervals: how far a figure would move with other rows of the same kind.
import { ValueError } from "../../gpu/errors.ts";
import { philox4x32 } from "../../tensor/philox.ts";
import { checkCount } from "../rows.ts";

/** A figure and the interval that holds its true value with a probability of about `level`. */
export interface Estimate {
  value: number;
  low: number;
  high: number;
}

export interface BootstrapOptions {
  /** Probability that the interval holds the true value, in (0, 1). Default 0.95. */
  level?: number;
  /** How often the rows are drawn anew. Default 2000. */
  resamples?: number;
  /** The same seed draws the same rows, whatever is computed of them. Default 0. */
  seed?: number;
  /**
   * Which document each row is a part of, by number: rows of one document are alike, so it is documents
   * that are drawn. Default: every row is a document.
   */
  documents?: ArrayLike<number>;
  /** Between which values each row's own ratio lies, as 0 and 1 for hits. Default: not known. */
  bounds?: readonly [least: number, most: number];
}

const op = "bootstrap";

/**
 * A ratio of sums over rows, Σ sums / Σ counts, with its percentile interval.
 * Where all rows have the same ratio v, drawing them anew shows no spread. Then at least p = (α/2)^(1/n) of all
 * rows of this kind are like these n, for else these would have been seen with a probability below α/2 (Clopper &
 * Pearson 1934); with `bounds` the interval is where the mean lies if the others lie at a bound.
 * @param sums  of each row, such as its loss
 * @param counts  of each row, such as its tokens; all 1 for a mean of rows
 * @throws ValueError where there is no row, nothing is counted, or an option is out of range
 * @see Efron 1979, "Bootstrap methods: another look at the jackknife"
 */
export function bootstrap(
  sums: ArrayLike<number>,
  counts: ArrayLike<number>,
  options: BootstrapOptions = {},
): Estimate {
  const { level = 0.95, resamples = 2000, seed = 0 } = options;
  check(sums, counts, options, level, resamples);
  const rows = byDocument(sums, counts, options.documents);
  const value = total(rows.sums) / total(rows.counts);
  const tail = (1 - level) / 2;
  if (isUniform(rows)) return uniform(value, rows.sums.length, tail, options.bounds);
  const drawn = resampled(rows, resamples, seed).sort();
  return { value, low: quantile(drawn, tail), high: quantile(drawn, 1 - tail) };
}

/**
 * The difference between two figures of the same rows, Σ (after − before) / Σ counts. Rows are drawn in pairs:
 * what makes a row hard for both does not widen the interval.
 * @param before  sums of each row
 * @param after  sums of the same rows
 */
export function bootstrapDifference(
  before: ArrayLike<number>,
  after: ArrayLike<number>,
  counts: ArrayLike<number>,
  options: BootstrapOptions = {},
): Estimate {
  if (before.length !== after.length) {
    refuse("after", `of the ${before.length} rows of before`, `${after.length}`);
  }
  const { bounds, ...others } = options;
  const widest = bounds && Math.abs(bounds[1] - bounds[0]);
  return bootstrap(
    Float64Array.from(before, (v, i) => after[i]! - v),
    counts,
    widest === undefined ? others : { ...others, bounds: [-widest, widest] },
  );
}

/** An estimate of a rising function of the figure, such as exp for a perplexity. */
export function mapped({ value, low, high }: Estimate, f: (v: number) => number): Estimate {
  return { value: f(value), low: f(low), high: f(high) };
}

interface Sums {
  sums: Float64Array;
  counts: Float64Array;
}

/** Rows of one document as one row; rows that count nothing are none. */
function byDocument(
  sums: ArrayLike<number>,
  counts: ArrayLike<number>,
  documents?: ArrayLike<number>,
): Sums {
  const joined = new Map<number, [sum: number, count: number]>();
  for (let i = 0; i < sums.length; i++) {
    if (counts[i] === 0) continue;
    const owner = documents?.[i] ?? i;
    const [sum, count] = joined.get(owner) ?? [0, 0];
    joined.set(owner, [sum + sums[i]!, count + counts[i]!]);
  }
  const rows = [...joined.values()];
  return {
    sums: Float64Array.from(rows, ([sum]) => sum),
    counts: Float64Array.from(rows, ([, count]) => count),
  };
}

/** The ratio of each draw of as many rows as there are, with replacement. */
function resampled({ sums, counts }: Sums, resamples: number, seed: number): Float64Array {
  const n = sums.length;
  const drawn = new Float64Array(resamples);
  for (let b = 0; b < resamples; b++) {
    let [sum, count] = [0, 0];
    for (let i = 0; i < n; i += 4) {
      const words = philox4x32([i / 4, b, 0, 0], [seed >>> 0, 0x626f6f74]);
      const few = Math.min(4, n - i);
      for (let k = 0; k < few; k++) {
        const at = Math.floor((words[k]! / 2 ** 32) * n);
        sum += sums[at]!;
        count += counts[at]!;
      }
    }
    drawn[b] = sum / count;
  }
  return drawn;
}

function isUniform({ sums, counts }: Sums): boolean {
  return sums.every((v, i) => v * counts[0]! === sums[0]! * counts[i]!);
}

function uniform(
  value: number,
  n: number,
  tail: number,
  bounds: readonly [number, number] | undefined,
): Estimate {
  if (!bounds) return { value, low: value, high: value };
  const p = tail ** (1 / n);
  return {
    value,
    low: p * value + (1 - p) * bounds[0],
    high: p * value + (1 - p) * bounds[1],
  };
}

/** Of sorted values, with straight lines between them. */
function quantile(sorted: Float64Array, q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const [a, b] = [sorted[below]!, sorted[Math.min(below + 1, sorted.length - 1)]!];
  return a + (at - below) * (b - a);
}

function total(values: Float64Array): number {
  return values.reduce((sum, v) => sum + v, 0);
}

function refuse(arg: string, expected: string, got: string): never {
  throw new ValueError({ op, arg, expected, got });
}

function check(
  sums: ArrayLike<number>,
  counts: ArrayLike<number>,
  { documents }: BootstrapOptions,
  level: number,
  resamples: number,
): void {
  const n = sums.length;
  if (n === 0) refuse("sums", "of at least one row", "none");
  if (counts.length !== n) refuse("counts", `of the ${n} rows of sums`, `${counts.length}`);
  if (documents && documents.length !== n) {
    refuse("documents", `of the ${n} rows of sums`, `${documents.length}`);
  }
  if (!(level > 0 && level < 1)) refuse("level", "between 0 and 1", `${level}`);
  checkCount(op, "resamples", resamples);
  const sizes = Array.from(counts);
  if (!sizes.every((v) => v >= 0)) refuse("counts", "at least 0", `${Math.min(...sizes)}`);
  if (sizes.every((v) => v === 0)) refuse("counts", "above 0 in some row", "0 in all");
}
