// runSweep: a sweep from a configuration, here or on other machines. Its trials are runs like any other.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { ValueError } from "../../gpu/errors.ts";
import { writeFileSafely } from "../../tensor/files.ts";
import { FolderLock } from "../folder_lock.ts";
import { Base } from "../recipe/base.ts";
import { configError } from "../recipe/config_error.ts";
import { planRun } from "../recipe/plan.ts";
import type { FullConfig } from "../recipe/schema.ts";
import { resultFile, writeTrial } from "./collect.ts";
import { type ExportKind, exported, exportFile, startOf } from "./export.ts";
import { overSeeds } from "./ranking.ts";
import { holds, type Settings, type Space, type Value } from "./space.ts";
import { endsAll, lineOf, openTasks, type SweepOptions, type SweepResult, sweep } from "./sweep.ts";
import {
  everyValue,
  planSweep,
  type SweepConfig,
  type SweepPlan,
  trialConfig,
} from "./sweep_config.ts";
import { type TrialHooks, TrialRuns } from "./trial_runs.ts";
import { parseTrial, type TrialLine } from "./trials_file.ts";

/** What watches a sweep, or ends it. */
export interface SweepHooks extends TrialHooks, Pick<SweepOptions, "onTrial" | "onProgress"> {
  /** Where the configuration comes from, for messages. */
  origin?: SweepPlan["origin"];
}

export interface SweepSummary extends SweepResult {
  folder: string;
  /** Settings of the best trial, or where trials differ in their seed, those that are best in the mean. */
  settings: Settings | null;
}

/**
 * Runs a sweep, or goes on with the one in the folder `output`: sweep.json, trials.jsonl, a run for each trial in
 * trials/, and best.json, the configuration of the best one. `await init()` comes first.
 * @param raw  a `SweepConfig`, or what was read from a file
 * @throws ConfigError, before anything is written, for what is wrong with it, the values of its space included;
 *   FormatError for data and models. What a trial throws is written down in its line
 */
export async function runSweep(
  raw: SweepConfig | object,
  hooks: SweepHooks = {},
): Promise<SweepSummary> {
  return withSweep(raw, hooks, async ({ plan, options }) => {
    const lock = await FolderLock.take("sweep", "output", options.folder);
    try {
      const result = await sweep(options);
      const settings = bestSettings(result);
      if (settings) await writeBest(plan, settings);
      return { ...result, folder: options.folder, settings };
    } finally {
      await lock.release();
    }
  });
}

/** What other machines are to run. */
export interface Exported {
  /** The file that starts it, and how that is used. */
  file: string;
  start: string;
  /** Numbers of the trials. */
  trials: number[];
}

/**
 * Writes a file that has other machines run all trials that may run now; null where there are none, for the search
 * is over.
 * @throws as `runSweep`
 */
export async function exportSweep(
  raw: SweepConfig | object,
  kind: ExportKind,
  hooks: SweepHooks = {},
): Promise<Exported | null> {
  return withSweep(raw, hooks, async ({ options }) => {
    const tasks = await openTasks(options);
    if (tasks.length === 0) return null;
    const file = `${options.folder}/${exportFile(kind)}`;
    const seen = kind === "k8s" ? resolve(options.folder) : options.folder; // a mount's path is whole
    await writeFileSafely(file, exported(kind, seen, tasks));
    return { file, start: startOf(kind, file), trials: tasks.map(({ trial }) => trial) };
  });
}

/**
 * Runs one trial of those that may run now, and writes what it came to into its folder, for `collect`.
 * @returns its line, at once where that is there already; null where it was interrupted
 * @throws as `runSweep`; ValueError for a trial that is not open
 */
export async function runTrial(
  raw: SweepConfig | object,
  trial: number,
  hooks: SweepHooks = {},
): Promise<TrialLine | null> {
  return withSweep(raw, hooks, async ({ options }) => {
    const tasks = await openTasks(options);
    const task = tasks.find((one) => one.trial === trial);
    if (!task) {
      const open = tasks.map((one) => one.trial).join(", ");
      const expected = open === "" ? "of a sweep that is not over" : `one of those that are open, ${open}`; // biome-ignore format: one line
      throw new ValueError({ op: "sweep", arg: "trial", expected, got: `${trial}` });
    }
    const before = resultFile(task.folder);
    if (existsSync(before)) {
      const line = parseTrial(before, readFileSync(before, "utf8"), 1);
      if (line.budget === task.steps) return line;
    }
    const [result] = await options.run([task]);
    if (endsAll(result!)) throw result;
    if (!(result instanceof Error) && result!.stopped === "aborted") return null;
    const line = lineOf(options, task, result!, 0);
    await writeTrial(options.folder, line);
    return line;
  });
}

interface Opened {
  plan: SweepPlan;
  options: SweepOptions;
}

/** Checks everything, and has something done with it. */
async function withSweep<T>(
  raw: object,
  hooks: SweepHooks,
  body: (opened: Opened) => Promise<T>,
): Promise<T> {
  const plan = planSweep(raw, hooks.origin);
  checkOutput(plan);
  using base = await Base.open(plan.config, hooks);
  for (const settings of everyValue(plan.space)) await base.check(trialConfig(plan, settings));
  return body({ plan, options: await optionsOf(plan, base, hooks) });
}

async function optionsOf(plan: SweepPlan, base: Base, hooks: SweepHooks): Promise<SweepOptions> {
  const { config, space, declared, sweep: asked, origin } = plan;
  const { forgetting_weight, side_by_side, ...search } = asked;
  const { output: folder, resume: _, ...common } = config;
  const data = await base.dataOf(config);
  if (!data.valid) {
    const expected = "something held out, by which trials are compared";
    throw configError({ key: "data.valid", expected, got: config.data.valid }, origin);
  }
  const planned = planRun(config, data);
  const { origin: __, onTrial, onProgress, ...watching } = hooks;
  const runs = new TrialRuns(plan, base, watching);
  return {
    folder,
    space: declared,
    search: {
      ...search,
      steps: planned.training.steps,
      round: side_by_side,
      start: startIn(space, planned),
    },
    seed: config.seed,
    forgettingWeight: forgetting_weight,
    sideBySide: side_by_side,
    kindOf: (settings) => runs.kindOf(settings),
    run: (tasks) => runs.run(tasks),
    identity: { config: common },
    signal: hooks.signal,
    ...(onTrial ? { onTrial } : {}),
    ...(onProgress ? { onProgress } : {}),
  };
}

/** What the configuration says of the settings, where the space has that too. */
function startIn(space: Space, config: object): Settings {
  const start: Record<string, Value> = {};
  for (const [path, dimension] of space) {
    let at: unknown = config;
    for (const key of path.split(".")) at = (at as Record<string, unknown> | undefined)?.[key];
    if (holds(dimension, at as Value)) start[path] = at as Value;
  }
  return start;
}

/** Throws ConfigError where a folder holds something else, or none to go on with. */
function checkOutput({ config: { output, resume }, origin }: SweepPlan): void {
  if (existsSync(`${output}/run.json`)) {
    const expected = "a folder for a sweep";
    throw configError({ key: "output", expected, got: `${output}, that of a run` }, origin);
  }
  const isThere = existsSync(`${output}/sweep.json`);
  if (isThere && resume === false) {
    const expected = "a folder without a sweep";
    const hint = "Go on with it by resume (--resume), or choose another folder.";
    throw configError({ key: "output", expected, got: output, hint }, origin);
  }
  if (isThere || resume !== true) return;
  const expected = "a folder with the sweep to go on with";
  throw configError({ key: "output", expected, got: output }, origin);
}

function bestSettings({ lines, best }: SweepResult): Settings | null {
  const groups = overSeeds(lines);
  if (best && groups.some(({ trials }) => trials.length > 1)) return groups[0]!.settings;
  return best?.settings ?? null;
}

/** The file of settings with which `lowrank train` trains what was best. */
async function writeBest(plan: SweepPlan, settings: Settings): Promise<void> {
  const { output, resume: _, ...config }: FullConfig = trialConfig(plan, settings);
  const text = JSON.stringify({ ...config, output: `${output}/best` }, null, 2);
  await writeFileSafely(`${output}/best.json`, `${text}\n`);
}
