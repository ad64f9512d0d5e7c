// `lowrank sweep`: trials over a space of settings, and which were best.
import type { Command } from "commander";
import { init } from "../gpu/device.ts";
import {
  collect,
  EXPORTS,
  type ExportKind,
  exportSweep,
  planSweep,
  ranking,
  runSweep,
  runTrial,
  type SweepHooks,
  type TrialLine,
  TrialsFile,
} from "../train/sweep/index.ts";
import { action, examples, number } from "./action.ts";
import { INTERRUPTED, UsageError } from "./errors.ts";
import { interruptible } from "./interrupt.ts";
import type { Output } from "./output.ts";
import { addSweepFlags, askedSweep, type SweepOptions } from "./sweep_flags.ts";
import { SweepProgress } from "./sweep_progress.ts";
import { exportText, sweepText, trialTable } from "./sweep_text.ts";
import type { Asked } from "./train_flags.ts";

const EXAMPLES = examples({
  "lowrank sweep -m models/base -d book.txt -o out/sweep --steps 200 --space r=4,8,16 --space lr=1e-4..1e-2": "20 trials; from the eleventh on, where good ones are likely", // biome-ignore format: one line
  "lowrank sweep -c sweep.yaml --search asha --trials 27": "27 trials begin, a third of them goes on, and a third of these", // biome-ignore format: one line
  "lowrank sweep out/sweep": "goes on after Ctrl-C or a crash, with the same bits",
  "lowrank sweep out/sweep --trials 40": "the same with more trials",
  "lowrank sweep -c sweep.yaml --export slurm":
    "a job array; then: lowrank sweep out/sweep --collect",
  "lowrank sweep out/sweep --json --quiet | jq .best.settings": "for a script",
});

const HOW = `
A file of settings has those of a run, with the space, and how it is searched:
  model: models/base
  output: out/sweep
  data: { train: book.txt, general: wiki.txt }
  training: { steps: 200 }
  space:
    r: [4, 8, 16]
    lr: { log_uniform: [1e-4, 1e-2] }
    target_modules: [all-linear, [q_proj, v_proj]]
  sweep: { search: tpe, trials: 20, forgetting_weight: 0.5 }
Settings are named by their paths, such as training.lr, or by the last word. Ranges are uniform, log_uniform,
integer or log_integer; in --space, those whose ends are a factor of 10 or more apart are even by factors.

Ctrl-C ends after the step and saves; a second Ctrl-C ends at once. A trial that fails is written down with its
error, and the sweep goes on. Exit code 1: no trial has a result.`;

export function addSweep(program: Command): void {
  const command = program
    .command("sweep [folder]")
    .summary("tries settings of a run, and says which were best")
    .description(
      "Trains with many settings out of a space, and ranks them by what is held out: validation loss, plus\n" +
        "a weight times what was forgotten on --general. Each trial is a run in the folder --out, and all\n" +
        "results are lines of its trials.jsonl. With a sweep's folder it goes on.",
    );
  addSweepFlags(command)
    .addHelpText("after", HOW)
    .addHelpText("after", EXAMPLES)
    .action(action<SweepOptions>(sweepCommand));
}

async function sweepCommand(
  output: Output,
  options: SweepOptions,
  folder?: string,
): Promise<number> {
  checkOneThing(options);
  if (options.collect) return collected(output, options, folder);
  const asked = await askedSweep(folder, options);
  planSweep(asked.raw, asked.origin);
  const progress = new SweepProgress(output);
  try {
    return await interruptible(
      (signal) => begin(output, options, asked, { ...progress.hooks(), signal }, progress),
      () => output.note("\nEnds after this step and saves; Ctrl-C again ends at once."),
    );
  } finally {
    progress.end();
  }
}

async function begin(
  output: Output,
  options: SweepOptions,
  { raw, origin }: Asked,
  watching: SweepHooks,
  progress: SweepProgress,
): Promise<number> {
  const hooks = { ...watching, origin, command: ["lowrank", ...process.argv.slice(2)] };
  await init();
  if (options.export !== undefined) return exportedTo(output, raw, options.export, hooks);
  if (options.trial !== undefined) return one(output, raw, options.trial, hooks);
  const summary = await runSweep(raw, hooks);
  progress.end();
  output.document(summary);
  if (summary.lines.length > 0)
    output.say(sweepText(summary, (raw as { tokenizer?: unknown }).tokenizer));
  if (!summary.done) {
    output.note(`Interrupted; lowrank sweep ${summary.folder} goes on.`);
    return INTERRUPTED;
  }
  return summary.best ? 0 : 1;
}

async function exportedTo(
  output: Output,
  raw: object,
  kind: string,
  hooks: SweepHooks,
): Promise<number> {
  const found = await exportSweep(raw, kindOf(kind), hooks);
  output.document(found);
  const { output: folder } = raw as { output: string };
  output.say(found ? exportText(folder, found) : "No trial is left to run: the search is over.");
  return 0;
}

function kindOf(given: string): ExportKind {
  const kind = EXPORTS.find((name) => name === given);
  if (kind) return kind;
  const facts = { arg: "--export", expected: `one of ${EXPORTS.join(", ")}`, got: given };
  throw new UsageError({ op: "lowrank", ...facts });
}

/** One trial, as exported files ask for it. */
async function one(output: Output, raw: object, trial: string, hooks: SweepHooks): Promise<number> {
  const line = await runTrial(raw, number("--trial")(trial), hooks);
  if (!line) {
    output.note("Interrupted; the same call goes on.");
    return INTERRUPTED;
  }
  output.document(line);
  if (line.error !== undefined) output.note(`trial ${line.trial} failed: ${line.error}`);
  else output.say(trialTable([line]));
  return 0; // its result is there, be it an error: to begin again would change nothing
}

async function collected(
  output: Output,
  { out }: SweepOptions,
  folder = out as string | undefined,
): Promise<number> {
  if (folder === undefined) {
    const facts = { arg: "--collect", expected: "beside a sweep's folder", got: "alone" };
    throw new UsageError({ op: "lowrank", ...facts });
  }
  const found: TrialLine[] = await collect(folder);
  const { lines } = await TrialsFile.open(`${folder}/trials.jsonl`);
  output.document({ folder, collected: found.length, lines });
  output.say(`${found.length} new results, ${ranking(lines).length} trials in all`);
  if (lines.length > 0) output.say(`\n${trialTable(lines)}`);
  return 0;
}

function checkOneThing(options: SweepOptions): void {
  const given = (["export", "collect", "trial"] as const).filter((name) => options[name]);
  if (given.length < 2) return;
  const got = given.map((name) => `--${name}`).join(" and ");
  throw new UsageError({ op: "lowrank", arg: `--${given[1]}`, expected: "given alone", got });
}
