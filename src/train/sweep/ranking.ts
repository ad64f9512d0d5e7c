// Which trial was best: the last line of each, and the mean over seeds.
import type { Settings } from "./space.ts";
import type { TrialLine } from "./trials_file.ts";

/** The last line of each trial, by its number. */
export function lastLines(lines: readonly TrialLine[]): TrialLine[] {
  const last = new Map<number, TrialLine>();
  for (const line of lines) {
    const before = last.get(line.trial);
    if (!before || stepsOf(line) >= stepsOf(before)) last.set(line.trial, line);
  }
  return [...last.values()].sort((a, b) => a.trial - b.trial);
}

/** The last lines from the best on: whole trials before paused ones, then by objective; failed ones last. */
export function ranking(lines: readonly TrialLine[]): TrialLine[] {
  return lastLines(lines).sort(
    (a, b) =>
      Number(a.objective === null) - Number(b.objective === null) ||
      (stepsOf(a) === stepsOf(b) ? 0 : stepsOf(b) - stepsOf(a)) ||
      (a.objective ?? 0) - (b.objective ?? 0) ||
      a.trial - b.trial,
  );
}

const stepsOf = ({ budget }: TrialLine) => budget ?? Infinity;

/** Trials that differ in nothing but their seed. */
export interface SeedGroup {
  settings: Settings;
  trials: number[];
  mean: number;
  /** Standard deviation of one trial, 0 of one alone. */
  deviation: number;
}

/** Groups of whole trials over their seeds, from the lowest mean objective on. */
export function overSeeds(lines: readonly TrialLine[]): SeedGroup[] {
  const groups = new Map<string, TrialLine[]>();
  for (const line of ranking(lines)) {
    if (line.objective === null) continue;
    const { seed: _, ...settings } = line.settings;
    const key = JSON.stringify([settings, line.budget]);
    groups.set(key, [...(groups.get(key) ?? []), line]);
  }
  const all = [...groups.values()].map((group) => {
    const values = group.map(({ objective }) => objective!);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const square = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
    const { seed: _, ...settings } = group[0]!.settings;
    const deviation = Math.sqrt(square / Math.max(1, values.length - 1));
    return {
      settings,
      trials: group.map(({ trial }) => trial).sort((a, b) => a - b),
      mean,
      deviation,
    };
  });
  return all.sort((a, b) => a.mean - b.mean);
}
