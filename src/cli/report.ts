// `lowrank report`: runs and sweeps as one page of plots.
import type { Command } from "commander";
import type { Report, ReportOptions } from "../train/report/index.ts";
import { action, examples } from "./action.ts";

const EXAMPLES = examples({
  "lowrank report out/run": "writes out/run/report.html: curves, memory, findings, settings",
  "lowrank report out/lora out/full out/dora --out compare.html": "three runs side by side",
  "lowrank report out/sweep": "a sweep: all trials, each setting, the best",
  "lowrank report out/run --tensorboard out/tb && tensorboard --logdir out/tb":
    "the same numbers in TensorBoard",
  "lowrank report out/sweep --csv out/csv": "a table of the trials for other tools",
});

export function addReport(program: Command): void {
  program
    .command("report")
    .summary("shows runs and sweeps as one page of plots")
    .description(
      "Shows runs and sweeps as one HTML page of plots, which needs no other file and no network:\n" +
        "what each learnt, forgot and cost, what went wrong in plain words, and its settings.\n" +
        "A run that is at work, or was killed, is shown as far as it came.",
    )
    .argument("<folders...>", "folders of runs or sweeps, or folders that hold such folders")
    .option("-o, --out <file>", "the page (default: report.html in the folder; of several: here)")
    .option("--tensorboard <folder>", "writes event files of TensorBoard there, too")
    .option("--csv <folder>", "writes CSV files there, too: a row for each step or trial")
    .addHelpText("after", EXAMPLES)
    .action(
      action<ReportOptions>(async (output, { out, tensorboard, csv }, folders: string[]) => {
        const paths = { out, tensorboard, csv } as ReportOptions;
        const { report } = await import("../train/report/index.ts");
        const written = await report(folders, paths);
        output.document(written);
        output.say(linesOf(written, tensorboard).join("\n"));
      }),
    );
}

/** What stands out, and what was written. */
function linesOf({ out, runs, sweeps, tensorboard, csv }: Report, events?: string): string[] {
  const mark = { bad: "!", mind: "·", good: "✓" };
  return [
    ...runs.flatMap(({ name, findings }) => [
      name,
      ...findings.map(({ kind, title, text }) => `  ${mark[kind]} ${title}. ${text}`),
    ]),
    ...sweeps.map(({ name, trials }) => `${name}: ${trials} trials`),
    ...[out, ...(tensorboard.length > 3 ? [] : tensorboard), ...csv].map((path) => `Written: ${path}`), // biome-ignore format: one line
    ...(tensorboard.length > 3 ? [`Written: ${tensorboard.length} event files in ${events}`] : []),
  ];
}
