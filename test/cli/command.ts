// The command, run as a user runs it.
import { run } from "../../src/cli/program.ts";
import { type Ended, runNode } from "../child.ts";

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
