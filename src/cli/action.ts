// What every command's file uses: an action with its output, examples in its help, numbers on the command line.
import { constants } from "node:os";
import type { Command } from "commander";
import { UsageError } from "./errors.ts";
import { Output } from "./output.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/**
 * The action of a command: `command.action(action<Options>(async (output, options, ...args) => …))`.
 * @param body  gets the output, the options with the global ones, and the arguments; a number that it
 *   returns is the exit code; anything else is 0
 */
export function action<O extends object = object>(
  body: (output: Output, options: O, ...args: never[]) => Promise<unknown>,
) {
  return async function (this: Command): Promise<void> {
    const options = this.optsWithGlobals<O & { json?: boolean; quiet?: boolean }>();
    const output = new Output(options);
    const release = leaveTidily(output);
    try {
      const code = await body(output, options, ...(this.processedArgs as never[]));
      process.exitCode = typeof code === "number" ? code : 0;
    } finally {
      output.end();
      release();
    }
  };
}

/**
 * However the process ends, bars give the terminal its cursor back: a signal that nothing else heeds is an exit.
 * @returns what takes the listeners away again
 */
function leaveTidily(output: Output): () => void {
  const onSignal = (signal: NodeJS.Signals) => {
    if (process.listenerCount(signal) === 1) process.exit(128 + constants.signals[signal]);
  };
  const onExit = () => output.end();
  for (const name of SIGNALS) process.on(name, onSignal);
  process.on("exit", onExit);
  return () => {
    for (const name of SIGNALS) process.off(name, onSignal);
    process.off("exit", onExit);
  };
}

/** Examples behind a command's help: what to type, and what it does. */
export function examples(list: Readonly<Record<string, string>>): string {
  const lines = Object.entries(list).map(([call, what]) => `  # ${what}\n  ${call}`);
  return `\nExamples:\n${lines.join("\n\n")}`;
}

/** Which numbers a flag takes, in words. */
export const RANGES = {
  "a number": () => true,
  "a positive integer": (x: number) => Number.isSafeInteger(x) && x > 0,
  "an integer of at least 0": (x: number) => Number.isSafeInteger(x) && x >= 0,
  "a number of at least 0": (x: number) => x >= 0 && x < Infinity,
  "a number above 0": (x: number) => x > 0 && x < Infinity,
  "a number between 0 and 1": (x: number) => x >= 0 && x <= 1,
  "a number above 0 and at most 1": (x: number) => x > 0 && x <= 1,
} as const;

/** Reads a number of the command line: `.option("--seed <n>", "…", number("--seed", "a positive integer"))`. */
export function number(
  flag: string,
  expected: keyof typeof RANGES = "a number",
): (text: string) => number {
  return (text) => {
    const value = Number(text);
    const isNumber = text.trim() !== "" && !Number.isNaN(value);
    if (isNumber && RANGES[expected](value)) return value;
    const got = isNumber ? text : `"${text}"`;
    throw new UsageError({ op: "lowrank", arg: flag, expected, got });
  };
}

/** Reads `a,b,c`, and collects what several flags of the name give. */
export function list(text: string, before: readonly string[] = []): string[] {
  const words = text.split(",").map((word) => word.trim());
  return [...before, ...words.filter((word) => word !== "")];
}
