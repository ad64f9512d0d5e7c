// Bootstrapped intervals against distributions that are known, and how often they hold the truth.
import { test } from "uvu";
import { equal, is, ok, throws } from "uvu/assert";
import { philox4x32 } from "../../../src/tensor/philox.ts";
import { bootstrap, bootstrapDifference, mapped } from "../../../src/train/evaluation/bootstrap.ts";

const ones = (n: number) => new Float64Array(n).fill(1);

/** Uniform numbers in [0, 1), of a stream of their own. */
function uniforms(n: number, stream: number): Float64Array {
  return Float64Array.from({ length: n }, (_, i) => {
    const [word] = philox4x32([i, stream, 0, 0], [1, 0x74657374]);
    return (word + 0.5) / 2 ** 32;
  });
}

/** The smallest k with P(Binomial(n, p) ≤ k) ≥ q. */
function binomialQuantile(n: number, p: number, q: number): number {
  let term = (1 - p) ** n;
  let sum = term;
  let k = 0;
  while (sum < q) {
    term *= ((n - k) / (k + 1)) * (p / (1 - p));
    sum += term;
    k += 1;
  }
  return k;
}

test("two rows, 0 and 1: of all draws a quarter each are all 0 and all 1", () => {
  const rows = [0, 1];
  equal(bootstrap(rows, ones(2)), { value: 0.5, low: 0, high: 1 });
  // With tails of 30 % the interval begins and ends at the middle, which half of all draws give.
  equal(bootstrap(rows, ones(2), { level: 0.4 }), { value: 0.5, low: 0.5, high: 0.5 });
});

test("hits: the sum of a draw is binomial, so its quantiles are known exactly", () => {
  for (const [n, hits] of [
    [50, 10],
    [200, 150],
    [31, 15],
  ] as const) {
    // biome-ignore format: one line
    const rows = Float64Array.from({ length: n }, (_, i) => Number(i < hits));
    for (const level of [0.5, 0.8, 0.95]) {
      const { value, low, high } = bootstrap(rows, ones(n), { level, resamples: 20_000 });
      is(value, hits / n);
      const tail = (1 - level) / 2;
      // Two neighbours where a quantile lies near a step: the draws are 20,000, not all.
      const near = (v: number, q: number) =>
        [-0.01, 0, 0.01].some((d) => Math.abs(v * n - binomialQuantile(n, hits / n, q + d)) < 1e-9);
      ok(near(low, tail), `${n}, ${hits}, ${level}: low ${low * n}`);
      ok(near(high, 1 - tail), `${n}, ${hits}, ${level}: high ${high * n}`);
    }
  }
});

test("a mean of many rows: the interval is that of the normal distribution", () => {
  const n = 400;
  const rows = uniforms(n, 1);
  const mean = rows.reduce((a, b) => a + b) / n;
  const deviation = Math.sqrt(rows.reduce((sum, v) => sum + (v - mean) ** 2, 0) / n);
  const half = (1.959964 * deviation) / Math.sqrt(n);
  const { value, low, high } = bootstrap(rows, ones(n), { resamples: 20_000 });
  ok(Math.abs(value - mean) < 1e-15);
  ok(Math.abs(low - (mean - half)) < 0.05 * half, `${low} not ${mean - half}`);
  ok(Math.abs(high - (mean + half)) < 0.05 * half, `${high} not ${mean + half}`);
});

/** In how many of so many made-up data sets the interval holds the truth. */
function coverage(sets: number, truth: number, interval: (set: number) => [number, number]) {
  let held = 0;
  for (let set = 0; set < sets; set++) {
    const [low, high] = interval(set);
    if (low <= truth && truth <= high) held += 1;
  }
  return held / sets;
}

test("coverage: a ratio of skewed sums is in 95 % of the intervals, in 80 % of narrower ones", () => {
  // Rows of 1 to 100 tokens, whose losses are exponential with a mean that grows with their length.
  const set = (i: number) => {
    const [lengths, losses] = [uniforms(60, 2 * i), uniforms(60, 2 * i + 1)];
    const counts = lengths.map((u) => 1 + Math.floor(100 * u));
    const sums = losses.map((u, k) => -Math.log(u) * counts[k]! * (1 + counts[k]! / 100));
    return { sums, counts };
  };
  // E[sum] / E[count] over counts of 1 … 100 alike.
  let [sum, count] = [0, 0];
  for (let c = 1; c <= 100; c++) [sum, count] = [sum + c * (1 + c / 100), count + c];
  for (const level of [0.95, 0.8]) {
    const share = coverage(500, sum / count, (i) => {
      const { sums, counts } = set(i);
      const { low, high } = bootstrap(sums, counts, { level, resamples: 400, seed: i });
      return [low, high];
    });
    // Four standard deviations of 500 trials, and two points that percentile intervals lack at 60 skewed rows.
    const slack = 4 * Math.sqrt((level * (1 - level)) / 500);
    ok(share > level - 0.02 - slack && share < level + slack, `${share} of ${level}`);
  }
});

test("coverage: documents of several like rows are drawn whole, or the interval is far too narrow", () => {
  const [documents, each] = [40, 10];
  const owner = Float64Array.from({ length: documents * each }, (_, i) => Math.floor(i / each));
  const rows = (i: number) => {
    const [shared, own] = [uniforms(documents, 2 * i), uniforms(documents * each, 2 * i + 1)];
    return owner.map((d, k) => shared[d]! + 0.1 * own[k]!);
  };
  const share = (known: boolean) =>
    coverage(300, 0.55, (i) => {
      const options = { resamples: 300, seed: i, ...(known ? { documents: owner } : {}) };
      const { low, high } = bootstrap(rows(i), ones(owner.length), options);
      return [low, high];
    });
  const [whole, apart] = [share(true), share(false)];
  ok(whole > 0.88 && whole < 0.995, `documents: ${whole}`);
  ok(apart < 0.7, `rows: ${apart}`);
});

test("a paired difference: coverage, and far narrower than the difference of two figures", () => {
  const n = 50;
  const pair = (i: number) => {
    const [hard, gain] = [uniforms(n, 2 * i), uniforms(n, 2 * i + 1)];
    const before = hard.map((u) => 5 * u);
    return { before, after: before.map((v, k) => v - 0.2 * gain[k]!) };
  };
  const share = coverage(400, -0.1, (i) => {
    const { before, after } = pair(i);
    const d = bootstrapDifference(before, after, ones(n), { resamples: 400, seed: i });
    return [d.low, d.high];
  });
  ok(share > 0.88 && share < 0.99, `${share}`);
  const { before, after } = pair(0);
  const both = bootstrapDifference(before, after, ones(n));
  const alone = bootstrap(before, ones(n));
  ok(both.high < 0, "the gain is seen");
  ok(both.high - both.low < 0.1 * (alone.high - alone.low));
  const opposite = bootstrapDifference(after, before, ones(n));
  ok(Math.abs(opposite.value + both.value) < 1e-12);
  ok(Math.abs(opposite.low + both.high) < 1e-12 && Math.abs(opposite.high + both.low) < 1e-12);
});

test("rows that all agree: without bounds no width, with them Clopper and Pearson's", () => {
  equal(bootstrap([2, 4], [1, 2]), { value: 2, low: 2, high: 2 });
  const hit = bootstrap(ones(20), ones(20), { bounds: [0, 1] });
  is(hit.value, 1);
  is(hit.high, 1);
  // P(all 20 hit) is 0.025 where a share of this size does.
  ok(Math.abs(hit.low ** 20 - 0.025) < 1e-12, `${hit.low}`);
  const miss = bootstrap(new Float64Array(20), ones(20), { bounds: [0, 1] });
  is(miss.low, 0);
  ok(Math.abs(miss.high - (1 - hit.low)) < 1e-12);
  const gained = bootstrapDifference(new Float64Array(20), ones(20), ones(20), { bounds: [0, 1] });
  is(gained.high, 1);
  ok(Math.abs(gained.low - (2 * hit.low - 1)) < 1e-12);
});

test("the same seed gives the same interval, another one hardly another; order does not matter much", () => {
  const rows = uniforms(100, 3);
  const one = bootstrap(rows, ones(100), { seed: 7 });
  equal(bootstrap(rows, ones(100), { seed: 7 }), one);
  const other = bootstrap(rows, ones(100), { seed: 8 });
  ok(other.low !== one.low && Math.abs(other.low - one.low) < 0.01);
  const perplexity = mapped(one, Math.exp);
  equal(perplexity.low, Math.exp(one.low));
});

test("documents are the sums of their rows, in whatever order", () => {
  const apart = bootstrap([1, 2, 3, 4], [1, 1, 2, 2], { documents: [5, 9, 5, 9] });
  equal(apart, bootstrap([4, 6], [3, 3]));
});

test("a row that counts nothing is no row", () => {
  equal(bootstrap([0, 3, 0], [0, 2, 0]), { value: 1.5, low: 1.5, high: 1.5 });
  const [sums, counts] = [
    [1, 5, 0, 2],
    [1, 2, 0, 3],
  ];
  const without = (list: number[]) => list.filter((_, i) => i !== 2);
  equal(bootstrap(sums!, counts!), bootstrap(without(sums!), without(counts!)));
});

test("what cannot be is refused", () => {
  const refused = (fn: () => unknown, message: string) =>
    throws(fn, (error: Error) => error.name === "ValueError" && error.message.includes(message));
  refused(() => bootstrap([], []), "bootstrap: sums must be of at least one row");
  refused(() => bootstrap([1], [1, 1]), "counts must be of the 1 rows of sums");
  refused(() => bootstrap([1], [-1]), "counts must be at least 0, got -1");
  refused(() => bootstrap([1], [0]), "above 0 in some row, got 0 in all");
  refused(() => bootstrap([1], [1], { level: 1 }), "between 0 and 1, got 1");
  refused(() => bootstrap([1], [1], { resamples: 0 }), "resamples must be a positive integer");
  refused(() => bootstrap([1], [1], { documents: [] }), "documents must be of the 1 rows");
  refused(() => bootstrapDifference([1], [1, 2], [1]), "the 1 rows of before");
});

test.run();
