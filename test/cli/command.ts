// The command, run as a user runs it.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { run } from "../../src/cli/program.ts";
import { readMetrics } from "../../src/train/recipe/index.ts";
import { type Ended, root, runNode } from "../child.ts";

/** Runs `lowrank` with arguments; variables that are undefined are taken away. */
export const lowrank = (
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<Ended> => runNode(["--import", "tsx", "src/cli/main.ts", ...args], env);

/** Runs it within this process, which is quicker. */
export async function inProcess(
  args: readonly string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const seen = { stdout: "", stderr: "" };
  const pipes = ["stdout", "stderr"] as const;
  const before = pipes.map((pipe) => process[pipe].write);
  for (const pipe of pipes) {
    process[pipe].write = ((text: string) => {
      seen[pipe] += text;
      return true;
    }) as typeof process.stdout.write;
  }
  try {
    const code = await run(args);
    return { code, ...seen };
  } finally {
    for (const [i, pipe] of pipes.entries()) process[pipe].write = before[i]!;
    process.exitCode = undefined;
  }
}

/** Runs a call in a process of its own, and sends it a signal when the run in the folder has come so far. */
export async function signalled(
  args: readonly string[],
  out: string,
  signal: NodeJS.Signals,
  at: number,
) {
  const child = spawn(process.execPath, ["--import", "tsx", "src/cli/main.ts", ...args], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const timer = setInterval(() => {
    const metrics = `${out}/metrics.jsonl`;
    if (!existsSync(metrics)) return;
    const steps = readMetrics(metrics).filter(({ kind }) => kind === "step");
    if (!((steps.at(-1)?.step ?? 0) >= at)) return;
    clearInterval(timer);
    child.kill(signal);
  }, 5);
  const code = await new Promise<ChildProcess["exitCode"]>((done) => child.on("close", done));
  clearInterval(timer);
  return { code, stderr };
}
