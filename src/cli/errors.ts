// How the command says that something went wrong, and the exit code that goes with it.
import { LowrankError } from "../gpu/errors.ts";

/** The command was called wrongly: exit code 2. */
export class UsageError extends LowrankError {}

/** It was interrupted, as a shell counts: 128 and the number of SIGINT. */
export const INTERRUPTED = 130;

/**
 * Prints an error's message, and its stack where LOWRANK_DEBUG is set.
 * @returns the exit code
 */
export function complain(error: unknown): number {
  const { message, stack } = error instanceof Error ? error : new Error(`${error}`);
  console.error(process.env.LOWRANK_DEBUG ? (stack ?? message) : message);
  return isUsage(error) ? 2 : 1;
}

/** Errors of a call or of a configuration; what other rooms throw is known by its name. */
function isUsage(error: unknown): boolean {
  return error instanceof UsageError || (error instanceof Error && error.name === "ConfigError");
}
