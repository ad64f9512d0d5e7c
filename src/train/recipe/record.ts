// run.json: what a run was asked, where it ran, and what came of it.
import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { gpu } from "../../gpu/device.ts";
import { FormatError } from "../../gpu/errors.ts";
import { MEMORY_CATEGORIES, type MemoryCategory } from "../../gpu/memory.ts";
import { readJson, writeFileSafely } from "../../tensor/files.ts";
import type { LoadCounts } from "../data/load.ts";
import type { Stopped } from "../fit_options.ts";
import { version } from "../version.ts";
import type { RatedConfig } from "./plan.ts";
import type { RateFound } from "./rate.ts";

/** Losses in nats per token on what is held out. */
interface HeldOut {
  before: number;
  /** Null while the run runs. */
  after: number | null;
}

type PeakBytes = Record<MemoryCategory | "total", number>;

export interface RunSummary {
  format: 1;
  /** Where all of the run lies. */
  folder: string;
  /** Resolved: steps, rates and lengths as they were used. */
  config: RatedConfig;
  /** The range test that found the rate; null where the rate was given. */
  found_rate: RateFound | null;
  /** What was typed, where it was the command. */
  command: string[] | null;
  /** Of this library. */
  version: string;
  adapter: { description: string; class: string; origin: string };
  /** ISO 8601, of the first call and of the end. */
  started: string;
  ended: string | null;
  /** Null while the run runs, and where it was killed. */
  stopped: Stopped | null;
  /** Steps done. */
  steps: number;
  /** Steps that moved nothing, for a loss or gradient was not finite. */
  skipped: number;
  parameters: { trainable: number; total: number; share: number };
  /** The most that all categories had together while training, and what each had then: they add up. */
  memory: { peak_bytes: PeakBytes } | null;
  /** Median of a step. */
  step_ms: number | null;
  tokens_per_second: number | null;
  /** What was saved, and its size; null for a run that saves nothing. */
  saved: string | null;
  adapter_bytes: number | null;
  valid: (HeldOut & { best: { step: number; loss: number } | null }) | null;
  general: (HeldOut & { forgetting: number | null }) | null;
  train_tokens: number;
  valid_tokens: number | null;
  data: LoadCounts;
  /** What one should know. */
  notes: string[];
}

const FILE = "run.json";

/** The parts of a summary that say where and with what it runs. */
export function surroundings(): Pick<RunSummary, "format" | "version" | "adapter" | "started"> {
  const { description, adapterClass, origin } = gpu("trainRun");
  const adapter = { description, class: adapterClass, origin };
  return { format: 1, version: version(), adapter, started: new Date().toISOString() };
}

export async function writeRun(summary: RunSummary): Promise<void> {
  await writeFileSafely(`${summary.folder}/${FILE}`, `${JSON.stringify(summary, null, 2)}\n`);
}

/**
 * The run of a folder, or null where there is none.
 * @throws FormatError for a file that is damaged, of another version, or no run's
 */
export async function readRun(folder: string): Promise<RunSummary | null> {
  const path = `${folder}/${FILE}`;
  if (!existsSync(path)) return null;
  const json = await readJson(path);
  const { format, config } = json;
  const refused = (expected: string, got: string) =>
    new FormatError({ op: "run", arg: path, expected, got });
  if (typeof config !== "object" || config === null) throw refused("the record of a run", "no config"); // biome-ignore format: one line
  if (isOurs(json)) return json;
  throw refused("of format 1", `${format}, which another version of lowrank wrote`);
}

/** What `writeRun` wrote is taken at its word. */
const isOurs = (json: { format?: unknown }): json is RunSummary => json.format === 1;

/** The peak since the last `resetPeak()`, or that of an earlier call where it was higher. */
export function peakBytes(earlier: RunSummary["memory"] = null): NonNullable<RunSummary["memory"]> {
  const { categories, total } = gpu("trainRun").memory();
  if (earlier && earlier.peak_bytes.total > total.peak) return earlier;
  const parts = MEMORY_CATEGORIES.map((name) => [name, categories[name].atPeak] as const);
  return { peak_bytes: { ...Object.fromEntries(parts), total: total.peak } as PeakBytes };
}

/** Bytes of all files of a folder. */
export async function bytesOf(folder: string): Promise<number> {
  const files = await readdir(folder);
  const sizes = await Promise.all(
    files.map(async (file) => (await stat(`${folder}/${file}`)).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** The middle value; null of none. */
export function median(values: readonly number[]): number | null {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? null;
}

/** Null of none. */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((a, b) => a + b) / values.length;
}
