// Times of some work, run again and again, and what stands for them.
import { cpus } from "node:os";

/** Where and when something was measured. */
export interface Conditions {
  /** Which bench: `device`, `model`; of the repository's own: `ops`, `peers`, `cuda`. */
  bench: string;
  adapter: string;
  driver: string;
  cpu: string;
  cores: number;
  node: string;
  /** When the last of the rows was measured. */
  date: string;
}

/** What this process runs on. */
export function conditions(bench: string, adapter: string, driver: string): Conditions {
  const cores = cpus();
  const cpu = cores[0]?.model.trim() ?? process.arch;
  const date = new Date().toISOString();
  return { bench, adapter, driver, cpu, cores: cores.length, node: process.version, date };
}

/** The value below which a share `q` of the values lies. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? low;
  return low + (high - low) * (at - Math.floor(at));
}

/** The median, and half the range between the quartiles as a share of it. */
export interface Timing {
  ms: number;
  spread: number;
  rounds: number;
}

export function timingOf(times: readonly number[]): Timing {
  const ms = quantile(times, 0.5);
  const spread = (quantile(times, 0.75) - quantile(times, 0.25)) / 2 / ms;
  return { ms, spread, rounds: times.length };
}

/**
 * Runs work until a time has passed, two rounds at least and fifty at most.
 * @param work  resolves when the device is done too
 * @param warm  rounds before that, which do not count: they compile and allocate
 */
export async function timed(work: () => Promise<void>, seconds: number, warm = 1): Promise<Timing> {
  for (let i = 0; i < warm; i++) await work();
  const times: number[] = [];
  const began = performance.now();
  while (times.length < 2 || (times.length < 50 && performance.now() - began < 1000 * seconds)) {
    const started = performance.now();
    await work();
    times.push(performance.now() - started);
  }
  return timingOf(times);
}

/** The most memory that this process ever had in RAM, in bytes. */
export async function peakResident(): Promise<number> {
  const { readFile } = await import("node:fs/promises");
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  const kilobytes = status.match(/^VmHWM:\s+(\d+)/m)?.[1] ?? process.resourceUsage().maxRSS;
  return Number(kilobytes) * 1024;
}
