// What a report is about: the runs and sweeps of folders.
import { readdir, stat } from "node:fs/promises";
import { resolve, sep } from "node:path";
import { FormatError, ValueError } from "../../gpu/errors.ts";
import { readLearnt } from "./learnt.ts";
import type { Subject } from "./page.ts";
import { isRun, readRun } from "./read_run.ts";
import { isSweep, readSweep } from "./read_sweep.ts";

/**
 * Reads runs and sweeps.
 * @param folders  each of a run, of a sweep, or one that holds such folders
 * @throws ValueError without a folder; FormatError for one that is none of these, or whose run.json or
 *   sweep.json is damaged
 */
export async function readSubject(folders: readonly string[]): Promise<Subject> {
  if (folders.length === 0) {
    const facts = { arg: "folders", expected: "folders of runs or sweeps", got: "none" };
    throw new ValueError({ op: "report", ...facts });
  }
  const found: string[] = [];
  for (const folder of folders) {
    for (const one of await inside(folder)) {
      if (!found.some((other) => resolve(other) === resolve(one))) found.push(one);
    }
  }
  const subject: Subject = { runs: [], sweeps: [] };
  const names = namesOf(found);
  for (const [i, folder] of found.entries()) {
    const name = names[i]!;
    if (await isSweep(folder)) subject.sweeps.push({ ...(await readSweep(folder)), name });
    else subject.runs.push({ ...(await readRun(folder)), learnt: await readLearnt(folder), name });
  }
  return subject;
}

const isOne = async (folder: string) => (await isSweep(folder)) || (await isRun(folder));

/** The folder itself, or the runs and sweeps right in it. */
async function inside(folder: string): Promise<string[]> {
  const refuse = (got: string): never => {
    throw new FormatError({
      op: "report",
      arg: folder,
      expected:
        "the folder of a run (run.json, metrics.jsonl) or of a sweep (sweep.json, trials.jsonl), or one that holds such folders",
      got,
    });
  };
  const facts = await stat(folder).catch(() => refuse("nothing of this name"));
  if (!facts.isDirectory()) return refuse("a file");
  if (await isOne(folder)) return [folder];
  const entries = (await readdir(folder)).sort();
  const found: string[] = [];
  for (const entry of entries)
    if (await isOne(`${folder}/${entry}`)) found.push(`${folder}/${entry}`);
  if (found.length > 0) return found;
  if (entries.length === 0) return refuse("an empty folder");
  const few = entries.slice(0, 4).join(", ") + (entries.length > 4 ? ", …" : "");
  return refuse(`a folder with ${few}`);
}

/** The folders' own names, with as much of their path as makes them unlike each other. */
function namesOf(folders: readonly string[]): string[] {
  const parts = folders.map((folder) =>
    resolve(folder)
      .split(sep)
      .filter((part) => part !== ""),
  );
  const name = (path: string[], depth: number) => path.slice(-depth).join("/") || "run";
  const deepest = Math.max(...parts.map((path) => path.length), 1);
  return parts.map((path, i) => {
    let depth = 1;
    const isTaken = () =>
      parts.some((other, j) => j !== i && name(other, depth) === name(path, depth));
    while (depth < deepest && isTaken()) depth += 1;
    return name(path, depth);
  });
}
