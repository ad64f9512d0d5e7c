// Times one case: verified first, then by wall clock and by the GPU's own timestamps.
import Benchmark from "benchmark";
import type { Gpu } from "../src/gpu/device.ts";
import { type Profile, profile } from "../src/kernels/profile.ts";
import type { Roofline } from "../src/kernels/roofline.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { quantile } from "../src/train/bench/timed.ts";
import { type BenchRow, besideOf, type Ready } from "./harness.ts";
import { looksAlive } from "./verify.ts";

/** One line of the table. Times are medians of one run; null where the device cannot tell. */
export interface Result {
  op: string;
  name: string;
  gpuTimeMs: number | null;
  wallTimeMs: number;
  /** What JavaScript took to encode and submit one run; the GPU works meanwhile and after. */
  hostTimeMs: number;
  /** Half the range between the quartiles of the wall time, as a share of the median. */
  spread: number;
  /** As the bench counts them. */
  flops: number | null;
  bytes: number | null;
  gflops: number | null;
  gbytesPerSecond: number | null;
  /** Share of what the device can do at best, by arithmetic or by memory, whichever binds. */
  shareOfPeak: number | null;
  /** How many times as long as the case beside it, in turns; null where there is none. */
  beside: Ratio | null;
  /** What one run consists of. */
  kernels: { label: string; calls: number; gpuTimeMs: number | null }[];
}

/** Times of two cases that took turns. */
export interface Ratio {
  /** The other's name. */
  of: string;
  /** The median of the turns' ratios. */
  times: number;
  /** Half the range between their quartiles, as a share of the median. */
  spread: number;
}

const SECONDS_PER_ROW = 1;
const TURNS = 25;
const SAMPLE_MS = 40;
const MAX_RUNS = 64;
const HOST_RUNS = 9;

/** Milliseconds of one run, sample by sample. */
interface Times {
  wall: number[];
  host: number[];
  gpuTimeMs: number | null;
}

/** The figures of a case, and the profile of one run of it. */
export async function measure(
  gpu: Gpu,
  row: BenchRow,
  peak: Roofline,
): Promise<{ result: Result; profiled: Profile }> {
  using _ = scope();
  const ready = await row.setup();
  await (ready.verify ?? (() => resultsLookAlive(ready)))();
  const once = async (runs: number) => {
    for (let i = 0; i < runs; i++) runOnce(ready);
    await gpu.sync();
  };
  await once(1);
  const started = performance.now();
  await once(1);
  const firstMs = performance.now() - started;
  const runs = Math.max(1, Math.min(MAX_RUNS, Math.round(SAMPLE_MS / firstMs)));
  const wall = (await wallTimes(() => once(runs))).map((ms) => ms / runs);
  const host = await hostTimes(gpu, ready);
  const gpuTimeMs = await gpuTime(gpu, ready, runs);
  const profiled = await profile(() => runOnce(ready));
  const kernels = profiled.ops.map(({ label, calls, gpuTimeMs }) => ({ label, calls, gpuTimeMs }));
  const other = besideOf(row);
  const beside = other && (await ratioTo(gpu, other, () => once(runs), runs));
  const figures = summary(row, ready, peak, { wall, host, gpuTimeMs });
  return { result: { ...figures, beside, kernels }, profiled };
}

/** The check of cases that have none of their own. What only writes in place needs one. */
async function resultsLookAlive(ready: Ready): Promise<void> {
  using _ = scope();
  const made = ready.run();
  const results = [made, ...Object.values(made ?? {})].flat();
  const tensors = results.filter((t): t is Tensor => t instanceof Tensor);
  if (tensors.length === 0) throw new Error("the case gives no tensor to look at, and no verify");
  for (const t of tensors) await looksAlive(t);
}

function runOnce(ready: Ready): void {
  using _ = scope();
  ready.run();
}

/** Milliseconds of each sample, by Benchmark.js. */
function wallTimes(sample: () => Promise<void>): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const run = new Benchmark({
      defer: true,
      initCount: 1,
      minSamples: 3,
      minTime: 0.001,
      maxTime: SECONDS_PER_ROW,
      delay: 0.001,
      fn: (deferred: { resolve: () => void }) => {
        sample().then(() => deferred.resolve(), reject);
      },
      onComplete: () => resolve(run.stats.sample.map((seconds: number) => 1000 * seconds)),
      onError: () => reject(run.error as unknown as Error),
    });
    run.run({ async: true });
  });
}

/** The time of a sample of `runs` runs as a multiple of another case's, each turn one of both. */
async function ratioTo(
  gpu: Gpu,
  { name, setup }: BenchRow,
  sample: () => Promise<void>,
  runs: number,
): Promise<Ratio> {
  using _ = scope();
  const other = await setup();
  const timed = async (work: () => Promise<void>) => {
    const started = performance.now();
    await work();
    return performance.now() - started;
  };
  const others = async () => {
    for (let i = 0; i < runs; i++) runOnce(other);
    await gpu.sync();
  };
  await others();
  const ratios: number[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    const theirs = await timed(others);
    ratios.push((await timed(sample)) / theirs);
  }
  const times = quantile(ratios, 0.5);
  const spread = (quantile(ratios, 0.75) - quantile(ratios, 0.25)) / 2 / times;
  return { of: name, times, spread };
}

/** Milliseconds until JavaScript was done with each of some runs, the GPU idle before. */
async function hostTimes(gpu: Gpu, ready: Ready): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < HOST_RUNS; i++) {
    const started = performance.now();
    runOnce(ready);
    times.push(performance.now() - started);
    await gpu.sync();
  }
  return times;
}

/** Milliseconds of one run by the GPU's own clock, or null where it has none. */
async function gpuTime(gpu: Gpu, ready: Ready, runs: number): Promise<number | null> {
  if (!gpu.hasTimestamps) return null;
  const rounds: number[] = [];
  for (let i = 0; i < 3; i++) {
    const { gpuTimeMs } = await profile(() => {
      for (let r = 0; r < runs; r++) runOnce(ready);
    });
    rounds.push(gpuTimeMs! / runs);
  }
  return quantile(rounds, 0.5);
}

function summary(
  { op, name }: BenchRow,
  { flops, bytes }: Ready,
  peak: Roofline,
  { wall, host, gpuTimeMs }: Times,
): Omit<Result, "beside" | "kernels"> {
  const wallTimeMs = quantile(wall, 0.5);
  const ms = gpuTimeMs || wallTimeMs;
  const leastMs = Math.max((flops ?? 0) / peak.gflops, (bytes ?? 0) / peak.gbytesPerSecond) / 1e6;
  return {
    op,
    name,
    gpuTimeMs,
    wallTimeMs,
    hostTimeMs: quantile(host, 0.5),
    spread: (quantile(wall, 0.75) - quantile(wall, 0.25)) / 2 / wallTimeMs,
    flops: flops ?? null,
    bytes: bytes ?? null,
    gflops: flops ? flops / ms / 1e6 : null,
    gbytesPerSecond: bytes ? bytes / ms / 1e6 : null,
    shareOfPeak: leastMs > 0 ? leastMs / ms : null,
  };
}
