#!/usr/bin/env node
// The `lowrank` command. Exit codes: 0 done, 1 it failed, 2 it was called wrongly, 130 it was interrupted.
import { diskError } from "../tensor/files.ts";
import { runCore } from "./core.ts";
import { complain } from "./errors.ts";

/** Runs a command line; where the package that reads it is absent, what needs none still works. */
async function main(args: readonly string[]): Promise<number> {
  let program: typeof import("./program.ts");
  try {
    program = await import("./program.ts");
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    if (code !== "ERR_MODULE_NOT_FOUND" || !message.includes("'commander'")) throw error;
    return runCore(args);
  }
  return program.run(args);
}

/** What stdout refused: a full disk behind `>`. A pipe that nobody reads any longer ends no work. */
let refused = false;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE" || refused) return;
  refused = true;
  process.exitCode = complain(diskError("stdout", error));
});

const code = await main(process.argv.slice(2)).catch(complain);
process.exitCode = code || Number(refused);
