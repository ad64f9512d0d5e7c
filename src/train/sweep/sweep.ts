// sweep: asks a search for trials, has them run, and writes down what came of them.
import { isDeepStrictEqual } from "node:util";
import { DeviceError, DiskError, type LowrankError, ValueError } from "../../gpu/errors.ts";
import { fileExists, readJson, writeFileSafely } from "../../tensor/files.ts";
import { ConfigError } from "../recipe/config_error.ts";
import { Playback } from "./playback.ts";
import { ranking } from "./ranking.ts";
import { checkInteger, type Job } from "./search.ts";
import { type SearchOptions, searchOf } from "./searches.ts";
import { readSpace, type Settings } from "./space.ts";
import { type TrialLine, TrialsFile } from "./trials_file.ts";

/** What a trial came to. */
export interface TrialResult {
  validLoss: number;
  /** By how much the loss on general text rose; null where none was given. */
  forgetting: number | null;
  steps: number;
  seconds: number;
  /** As a run says it; `aborted`: it is not over, and is gone on with another time. */
  stopped: string;
}

/** A job with the place of its run. */
export interface Task extends Job {
  seed: number;
  folder: string;
}

export interface SweepOptions {
  /** Gets `sweep.json`, `trials.jsonl` and `trials/<number>/`. */
  folder: string;
  /** As `readSpace` takes it. */
  space: unknown;
  /** Which search, and what it needs. */
  search: SearchOptions;
  /** Seed of trials whose settings have none. Default 0. */
  seed?: number;
  /** What one nat of forgetting counts against one of validation loss; less than none counts nothing. Default 0. */
  forgettingWeight?: number;
  /** Most trials that train side by side. Default 1. */
  sideBySide?: number;
  /** Trials of one kind may train side by side; absent: any. */
  kindOf?: (settings: Settings) => string;
  /**
   * Runs trials, several where they may train side by side, each up to its `steps`; one that has a run in
   * its folder goes on with it. Gives a result or an error for each.
   */
  run: (tasks: readonly Task[]) => Promise<readonly (TrialResult | Error)[]>;
  /** Anything else that must not change while the sweep goes on, such as the config. */
  identity?: Readonly<Record<string, unknown>>;
  signal?: AbortSignal | undefined;
  onTrial?: (line: TrialLine) => void;
  /** Called in the beginning and after every line: how many lines there are, of about how many. */
  onProgress?: (done: number, of: number) => void;
}

export interface SweepResult {
  /** Every line of trials.jsonl. */
  lines: TrialLine[];
  /** The best trial; null where none has a number. */
  best: TrialLine | null;
  /** Whether the search is over. */
  done: boolean;
}

/**
 * Runs a sweep, or goes on with the one in the folder: finished trials are not run again, and the others
 * are those that would have come. A trial that fails is written down with its error; the loss of the device and a
 * full disk end the sweep.
 * @throws ValueError where the space or an option is out of range, ConfigError where the folder is of another
 *   sweep, and nothing is written then; DeviceError where the device was lost, DiskError where the disk refuses
 */
export async function sweep(options: SweepOptions): Promise<SweepResult> {
  const { sideBySide = 1, signal } = options;
  checkInteger("side_by_side", sideBySide, 1);
  const { file, playback, count } = await openSweep(options);
  const progress = () => options.onProgress?.(file.lines.length, count);
  progress();
  for (;;) {
    const jobs = signal?.aborted ? [] : playback.next(sideBySide);
    if (jobs.length === 0) break;
    for (const tasks of groupsOf(
      jobs.map((job) => taskOf(options, job)),
      options.kindOf,
    )) {
      if (signal?.aborted) break;
      for (const line of await linesOf(options, tasks)) {
        await file.append(line);
        playback.add(line);
        options.onTrial?.(line);
        progress();
      }
    }
  }
  const [best] = ranking(file.lines);
  const done = !signal?.aborted;
  return { lines: file.lines, best: best?.objective == null ? null : best, done };
}

/** The trials that may run now, all at once: for other machines. None: the search is over. */
export async function openTasks(options: SweepOptions): Promise<Task[]> {
  const { playback } = await openSweep(options);
  return playback.next(Infinity).map((job) => taskOf(options, job));
}

/** Reads a sweep's folder, or makes it. */
async function openSweep(options: SweepOptions) {
  const { folder, forgettingWeight = 0, seed = 0, search, identity } = options;
  if (!(Number.isFinite(forgettingWeight) && forgettingWeight >= 0)) {
    const facts = { arg: "forgetting_weight", expected: "a number of at least 0" };
    throw new ValueError({ op: "sweep", ...facts, got: `${forgettingWeight}` });
  }
  const found = searchOf(readSpace(options.space), search);
  const { trials, start: _, round, steps: __, ...kept } = search;
  const rounds = search.search === "tpe" ? { round } : {}; // what its trials know of each other
  const section = { ...kept, ...rounds, forgetting_weight: forgettingWeight };
  const facts = { format: 1, space: options.space, sweep: section, seed, ...identity };
  const free = { trials, side_by_side: options.sideBySide };
  await keepFacts(`${folder}/sweep.json`, facts, free);
  const file = await TrialsFile.open(`${folder}/trials.jsonl`);
  return { file, playback: new Playback(found, file.lines), count: found.count };
}

type Facts = Record<string, unknown>;

/**
 * Writes what a sweep is, or checks that it is the same.
 * @param free  what may differ when it goes on
 */
async function keepFacts(path: string, facts: Facts, free: Facts): Promise<void> {
  const own = JSON.parse(JSON.stringify(facts)) as Facts;
  const before = (await fileExists(path)) ? await readJson(path) : null;
  const kept = Object.entries(before ?? {}).filter(([name]) => !(name in free));
  const differing = before ? differences(Object.fromEntries(kept), own) : [];
  if (differing.length === 0) {
    const text = `${JSON.stringify({ ...own, ...free }, null, 2)}\n`;
    if (JSON.stringify(before, null, 2) !== text.trimEnd()) await writeFileSafely(path, text);
    return;
  }
  const list = (which: "before" | "now") =>
    differing.map((one) => `${one.path} ${JSON.stringify(one[which]) ?? "absent"}`).join(", ");
  throw new ConfigError({
    op: "sweep",
    arg: path,
    expected: `of a sweep with ${list("now")}`,
    got: list("before"),
    hint: "Nothing was changed. Another sweep needs a folder of its own.",
  });
}

/** Where two values differ, by the paths of the smallest parts that do. */
function differences(before: unknown, now: unknown, path: readonly string[] = []): Difference[] {
  if (isDeepStrictEqual(before, now)) return [];
  if (!isSection(before) || !isSection(now)) return [{ path: path.join("."), before, now }];
  return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) =>
    differences(before[key], now[key], [...path, key]),
  );
}

interface Difference {
  path: string;
  before: unknown;
  now: unknown;
}

function isSection(value: unknown): value is Facts {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function taskOf({ folder, seed = 0 }: SweepOptions, job: Job): Task {
  const own = job.settings.seed;
  const name = `${job.trial}`.padStart(4, "0");
  return {
    ...job,
    seed: typeof own === "number" ? own : seed,
    folder: `${folder}/trials/${name}`,
  };
}

/** Tasks that may run side by side: of one kind and with the same steps before them. */
function groupsOf(tasks: readonly Task[], kindOf: (s: Settings) => string = () => ""): Task[][] {
  const groups = new Map<string, Task[]>();
  for (const task of tasks) {
    const key = JSON.stringify([kindOf(task.settings), task.steps]);
    groups.set(key, [...(groups.get(key) ?? []), task]);
  }
  return [...groups.values()];
}

/** Runs tasks; lines of those that ended. */
async function linesOf(options: SweepOptions, tasks: readonly Task[]): Promise<TrialLine[]> {
  const began = performance.now();
  const failed = (error: unknown) => tasks.map(() => error as Error);
  const results = await options.run(tasks).catch(failed);
  const lost = results.find(endsAll);
  if (lost) throw lost; // no trial's fault: each is gone on with another time
  const seconds = (performance.now() - began) / 1000 / tasks.length;
  return tasks.flatMap((task, i) => {
    const result = results[i]!;
    if (!(result instanceof Error) && result.stopped === "aborted") return [];
    return [lineOf(options, task, result, seconds)];
  });
}

/** Whether what a trial threw is no fault of its own, and would end every other trial too. */
export function endsAll(result: TrialResult | Error): result is LowrankError {
  const isLoss = result instanceof DeviceError && result.arg === "the device";
  return isLoss || result instanceof DiskError;
}

/** The line of a trial that ended. */
export function lineOf(
  { folder, forgettingWeight = 0 }: Pick<SweepOptions, "folder" | "forgettingWeight">,
  { trial, settings, seed, steps: budget, folder: own }: Task,
  result: TrialResult | Error,
  seconds: number,
): TrialLine {
  const shared = { trial, settings, seed };
  const place = own.startsWith(`${folder}/`) ? own.slice(folder.length + 1) : own;
  if (result instanceof Error) {
    const none = { objective: null, valid_loss: null, forgetting: null, steps: 0, budget };
    return { ...shared, ...none, seconds, stopped: "failed", folder: place, error: result.message };
  }
  const { validLoss, forgetting, steps, stopped } = result;
  const objective = validLoss + forgettingWeight * Math.max(0, forgetting ?? 0);
  return {
    ...shared,
    objective: finite(objective),
    valid_loss: finite(validLoss),
    forgetting: forgetting === null ? null : finite(forgetting),
    steps,
    budget,
    seconds: result.seconds,
    stopped,
    folder: place,
  };
}

const finite = (x: number) => (Number.isFinite(x) ? x : null);
