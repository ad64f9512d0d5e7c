// Reports on runs and sweeps: `import { report } from "lowrank/report"`. Node only; plots need vega and vega-lite.
import { writeFileSafely } from "../../tensor/files.ts";
import { writeCsv, writeTensorBoard } from "./exports.ts";
import { type Finding, findingsOf } from "./findings.ts";
import { page } from "./page.ts";
import { readSubject } from "./subject.ts";

export type { Finding } from "./findings.ts";

export interface ReportOptions {
  /** The page to write. Default: `report.html` in the folder, or here where there are several. */
  out?: string;
  /** Gets an event file of TensorBoard for each run, and for each trial of a sweep, too. */
  tensorboard?: string;
  /** Gets a CSV file for each run and sweep, too. */
  csv?: string;
}

/** What was written, and what there is to say. */
export interface Report {
  /** Path of the page. */
  out: string;
  runs: { name: string; folder: string; findings: Finding[] }[];
  sweeps: { name: string; folder: string; trials: number }[];
  tensorboard: string[];
  csv: string[];
}

/**
 * Writes one page with all plots and numbers of runs and sweeps, which needs no other file and no network.
 * @param folders  each of a run, of a sweep, or one that holds such folders
 * @throws ValueError without a folder; FormatError for one that is none of these; LowrankError where the
 *   packages that plot are absent. Nothing is written then.
 */
export async function report(
  folders: readonly string[],
  options: ReportOptions = {},
): Promise<Report> {
  const subject = await readSubject(folders);
  const { runs, sweeps } = subject;
  const document = await page(subject);
  const out = options.out ?? (folders.length === 1 ? `${folders[0]}/report.html` : "report.html");
  await writeFileSafely(out, document);
  return {
    out,
    runs: runs.map((run) => ({ name: run.name, folder: run.folder, findings: findingsOf(run) })),
    sweeps: sweeps.map(({ name, folder, trials }) => ({ name, folder, trials: trials.length })),
    tensorboard: options.tensorboard
      ? await writeTensorBoard(options.tensorboard, runs, sweeps)
      : [],
    csv: options.csv ? await writeCsv(options.csv, runs, sweeps) : [],
  };
}
