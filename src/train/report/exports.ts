// A report's numbers for other tools: scalars of a run for TensorBoard, tables as CSV.
import { basename } from "node:path";
import { writeFileSafely } from "../../tensor/files.ts";
import { type Run, readRun, type Step } from "./read_run.ts";
import type { Sweep } from "./read_sweep.ts";
import { type Scalar, writeEvents } from "./tensorboard.ts";

/** What each step tells, by the names of metrics.jsonl. */
const COLUMNS: Readonly<Record<string, (step: Step) => number | null>> = {
  loss: (s) => s.loss,
  smoothed_loss: (s) => s.smoothed,
  lr: (s) => s.lr,
  grad_norm: (s) => s.gradNorm,
  step_ms: (s) => s.stepMs,
  tokens_per_second: (s) => s.tokensPerSecond,
};

/** All numbers of a run in the order of its steps. Times are those at which steps ended, validation not counted. */
export function scalarsOf(run: Run): Scalar[] {
  let time = (run.facts.date("started")?.getTime() ?? 0) / 1000;
  const began = time;
  const scalars: Scalar[] = [];
  const timeOf = new Map<number, number>();
  for (const step of run.steps) {
    time += (step.stepMs ?? 0) / 1000;
    timeOf.set(step.step, time);
    for (const [name, of] of Object.entries(COLUMNS)) {
      const value = of(step);
      if (value !== null) scalars.push({ tag: `train/${name}`, step: step.step, value, time });
    }
  }
  for (const kind of ["valid", "general"] as const) {
    for (const { step, loss: value } of run[kind]) {
      scalars.push({ tag: `${kind}/loss`, step, value, time: timeOf.get(step) ?? began });
    }
  }
  return scalars.sort((a, b) => a.step - b.step);
}

/**
 * Writes an event file for each run, and for each trial of a sweep: `<folder>/<name of the run>/events.out.tfevents…`,
 * `<folder>/<name of the sweep>/0000/…`.
 * @returns their paths
 */
export async function writeTensorBoard(
  folder: string,
  runs: readonly Run[],
  sweeps: readonly Sweep[],
): Promise<string[]> {
  const paths: string[] = [];
  const write = async (name: string, run: Run) => {
    const started = (run.facts.date("started")?.getTime() ?? 0) / 1000;
    paths.push(await writeEvents(`${folder}/${name}`, scalarsOf(run), started));
  };
  for (const run of runs) await write(run.name, run);
  for (const { name, trials } of sweeps) {
    const folders = trials.flatMap((trial) => trial.folder ?? []).sort();
    for (const own of folders) await write(`${name}/${basename(own)}`, await readRun(own));
  }
  return paths;
}

/** RFC 4180: a cell with a comma, a quote or a new line stands in quotes. */
function cell(value: string | number | boolean | null | undefined): string {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

type Rows = readonly (readonly (string | number | boolean | null | undefined)[])[];

const csv = (rows: Rows): string => rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");

/** A row for each step, the losses on validation and general text beside it. */
export function runCsv({ steps, valid, general }: Run): string {
  const held = [valid, general].map((of) => new Map(of.map((look) => [look.step, look.loss])));
  const own = new Map(steps.map((step) => [step.step, step]));
  const all = [...new Set([...own.keys(), ...held.flatMap((of) => [...of.keys()])])];
  const rows = all
    .sort((a, b) => a - b)
    .map((at) => {
      const step = own.get(at);
      const numbers = Object.values(COLUMNS).map((of) => (step ? of(step) : null));
      return [at, ...numbers, step?.skipped, ...held.map((of) => of.get(at))];
    });
  return csv([["step", ...Object.keys(COLUMNS), "skipped", "valid_loss", "general_loss"], ...rows]);
}

/** A row for each trial, a column for each setting. */
export function sweepCsv({ trials }: Sweep): string {
  const keys = [...new Set(trials.flatMap(({ settings }) => Object.keys(settings)))];
  const facts = ["objective", "valid_loss", "forgetting", "steps", "seconds", "stopped"];
  const rows = trials.map((t) => [
    ...[t.name, ...keys.map((key) => t.settings[key]), t.seed],
    ...[t.objective, t.validLoss, t.forgetting, t.steps, t.seconds, t.stopped],
  ]);
  return csv([["trial", ...keys, "seed", ...facts], ...rows]);
}

/**
 * Writes a CSV file for each run and sweep: `<folder>/<name>.csv`.
 * @returns their paths
 */
export async function writeCsv(
  folder: string,
  runs: readonly Run[],
  sweeps: readonly Sweep[],
): Promise<string[]> {
  const files = [
    ...runs.map((run) => [run.name, runCsv(run)] as const),
    ...sweeps.map((sweep) => [sweep.name, sweepCsv(sweep)] as const),
  ].map(([name, text]) => [`${folder}/${name}.csv`, text] as const);
  for (const [path, text] of files) await writeFileSafely(path, text);
  return files.map(([path]) => path);
}
