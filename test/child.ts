// Child processes for tests of what a whole process does: how it starts, what it prints, how it ends.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const root = resolve(import.meta.dirname, "..");

/** How a child ended. `code` is null where a signal ended it; it is killed after two minutes. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** Milliseconds between its last line of output and its end. */
  idle: number;
}

type Env = Readonly<Record<string, string | undefined>>;

/** Runs Node with these arguments in a folder; variables that are undefined are taken away. */
export function runNode(args: readonly string[], env: Env = {}, cwd = root): Promise<Ended> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, args, { cwd, env: { ...process.env, ...env } });
    const out = { stdout: "", stderr: "" };
    let last = performance.now();
    for (const pipe of ["stdout", "stderr"] as const) {
      child[pipe].setEncoding("utf8").on("data", (text: string) => {
        out[pipe] += text;
        last = performance.now();
      });
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), 120_000);
    child.on("error", fail);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      done({ code, signal, ...out, idle: performance.now() - last });
    });
  });
}

/** Runs lines of JavaScript, a module whose imports start at the repository's root. */
export function runModule(code: string, env: Env = {}): Promise<Ended> {
  return runNode(["--import", "tsx", "--input-type=module", "-e", code], env);
}

/** An empty folder for the time of `body`. */
export async function inFolder<T>(body: (folder: string) => Promise<T> | T): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-test-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
