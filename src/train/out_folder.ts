// A folder that appears whole: checked before anything is done, and put in place at the end.
import { accessSync, constants, existsSync, readdirSync, statSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { dirname, relative, resolve } from "node:path";
import { ValueError } from "../gpu/errors.ts";
import { diskError, reasonOf } from "../tensor/files.ts";

/**
 * Throws ValueError unless a folder may be written.
 * @param op  name for messages
 * @param sources  folders that are read, which it must not touch
 * @param overwrite  whether a model's folder that is there may be replaced
 */
export function checkOut(
  op: string,
  out: string,
  sources: readonly string[],
  overwrite: boolean,
): void {
  const refuse = (expected: string, got: string, hint = "") => {
    throw new ValueError({ op, arg: "out", expected, got, hint });
  };
  const clash = sources.find((source) => holds(out, source) || holds(source, out));
  if (clash !== undefined) refuse(`apart from ${clash}, which is read`, out);
  checkAbove(op, out);
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) refuse("a folder, or nothing yet", `the file ${out}`);
  const entries = readdirSync(out);
  if (entries.length === 0) return;
  if (!overwrite) {
    const hint = "Choose another, or overwrite it: overwrite, or --overwrite of the command.";
    refuse("an empty folder, or nothing yet", out, hint);
  }
  if (entries.includes("config.json")) return;
  refuse("the folder of a model, to be overwritten", `${out}, which has no config.json`);
}

/** Throws ValueError unless a folder can be made there: what is nearest above it is a folder that can be written. */
function checkAbove(op: string, out: string): void {
  let above = dirname(resolve(out));
  try {
    while (!existsSync(above)) above = dirname(above);
    accessSync(`${above}/`, constants.W_OK);
  } catch (error) {
    const got = `${out}: ${reasonOf(error as Error)}`;
    throw new ValueError({ op, arg: "out", expected: "in a folder that can be written", got });
  }
}

/** Whether one folder is the other or lies above it. */
function holds(above: string, below: string): boolean {
  const path = relative(resolve(above), resolve(below));
  return path === "" || !(path.startsWith("..") || resolve(path) === path);
}

/** Where a folder is written until it is whole. */
export function temporaryFolder(out: string): string {
  return `${bare(out)}.writing-${process.pid}`;
}

const bare = (folder: string) => folder.replace(/(?<=.)\/+$/, "");

/** Puts a finished folder in the place of what is there. */
export async function swapIn(
  op: string,
  finished: string,
  out: string,
  overwrite: boolean,
): Promise<void> {
  checkOut(op, out, [], overwrite); // somebody may have been there meanwhile
  const to = bare(out);
  const old = existsSync(to) ? `${to}.old-${process.pid}` : null;
  try {
    if (old) await rename(to, old);
    await rename(finished, to);
  } catch (error) {
    if (old && !existsSync(to)) await rename(old, to);
    throw diskError(to, error);
  }
  if (!old) return;
  await rm(old, { recursive: true, force: true });
}
