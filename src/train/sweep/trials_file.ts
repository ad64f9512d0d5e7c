// trials.jsonl: one line for each finished trial, and of ASHA for each rung that a trial has reached.
import { open, readFile, truncate } from "node:fs/promises";
import { dirname } from "node:path";
import { FormatError } from "../../gpu/errors.ts";
import { makeFolder } from "../../tensor/disk.node.ts";
import { diskError } from "../../tensor/files.ts";
import type { Job, Outcome } from "./search.ts";
import type { Settings } from "./space.ts";

/** A line. Losses that are no numbers, and those of failed trials, are null. */
export interface TrialLine {
  trial: number;
  settings: Settings;
  seed: number;
  /** Validation loss plus the weighted forgetting, where there is any. */
  objective: number | null;
  valid_loss: number | null;
  /** By how much the loss on general text rose; null where there was none to look at. */
  forgetting: number | null;
  /** Steps done. */
  steps: number;
  /** Steps after which ASHA let it pause; null: it was to run to its end. */
  budget: number | null;
  seconds: number;
  /** Why it ended: as a run says it, or `failed`. */
  stopped: string;
  /** Its run, seen from the folder of the sweep. */
  folder: string;
  /** What went wrong, where it failed. */
  error?: string;
}

/** By what a job and its line belong together. */
export function keyOf(of: Pick<Job, "trial" | "steps">): string {
  return `${of.trial} ${of.steps}`;
}

/** What a search is told of a line. */
export function outcomeOf({ trial, budget, objective }: TrialLine): Outcome {
  return { trial, steps: budget, objective: objective ?? Infinity };
}

/** The lines of a sweep, and where to put more. */
export class TrialsFile {
  private constructor(
    readonly path: string,
    readonly lines: TrialLine[],
  ) {}

  /**
   * Reads the file, if there is one. A last line that was not written to its end is cut off.
   * @throws FormatError for a line that is none of a trial, with its number
   */
  static async open(path: string): Promise<TrialsFile> {
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw new FormatError({ op: "sweep", arg: path, expected: "readable", got: error.message });
    });
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    const lines = whole
      .split("\n")
      .flatMap((line, i) => (line ? [parseTrial(path, line, i + 1)] : []));
    if (whole.length < text.length) await truncate(path, Buffer.byteLength(whole));
    return new TrialsFile(path, lines);
  }

  /** Adds a line, and waits until it is on the disk. Throws DiskError where that refuses. */
  async append(line: TrialLine): Promise<void> {
    try {
      await makeFolder(dirname(this.path));
      const file = await open(this.path, "a");
      try {
        await file.writeFile(`${JSON.stringify(line)}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      throw diskError(this.path, error);
    }
    this.lines.push(line);
  }
}

/** Reads a line; `number` is for messages. */
export function parseTrial(path: string, text: string, number: number): TrialLine {
  const refuse = (got: string): never => {
    const arg = `${path}, line ${number},`;
    throw new FormatError({ op: "sweep", arg, expected: "a trial in JSON", got });
  };
  let line: Partial<TrialLine> = {};
  try {
    line = JSON.parse(text) as TrialLine;
  } catch (error) {
    refuse((error as Error).message);
  }
  const isTrial = Number.isInteger(line?.trial) && typeof line.settings === "object";
  if (!isTrial) refuse(text.slice(0, 80));
  return { ...line, budget: line.budget ?? null } as TrialLine;
}
