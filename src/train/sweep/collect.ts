// Results of trials that ran elsewhere: each wrote a line into its own folder.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { writeFileSafely } from "../../tensor/files.ts";
import { keyOf, parseTrial, type TrialLine, TrialsFile } from "./trials_file.ts";

/** Where a trial's folder has what it came to. */
export const resultFile = (trialFolder: string) => `${trialFolder}/trial.json`;

/** Writes what a trial came to into its folder, for `collect`. */
export async function writeTrial(sweepFolder: string, line: TrialLine): Promise<void> {
  await writeFileSafely(resultFile(`${sweepFolder}/${line.folder}`), `${JSON.stringify(line)}\n`);
}

/**
 * Adds the lines in the folders of trials to trials.jsonl, those that are there already left out.
 * @returns the new lines
 */
export async function collect(folder: string): Promise<TrialLine[]> {
  const file = await TrialsFile.open(`${folder}/trials.jsonl`);
  const keyOfLine = ({ trial, budget }: TrialLine) => keyOf({ trial, steps: budget });
  const known = new Set(file.lines.map(keyOfLine));
  const found: TrialLine[] = [];
  const trials = `${folder}/trials`;
  for (const name of existsSync(trials) ? readdirSync(trials).sort() : []) {
    const path = resultFile(`${trials}/${name}`);
    if (!existsSync(path)) continue;
    const line = parseTrial(path, readFileSync(path, "utf8"), 1);
    if (known.has(keyOfLine(line))) continue;
    await file.append(line);
    found.push(line);
  }
  return found;
}
