// What every command's file uses: an action with its output, examples in its help, numbers on the command line.
import type { Command } from "commander";
import { UsageError } from "./errors.ts";
import { Output } from "./output.ts";

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
    try {
      const code = await body(output, options, ...(this.processedArgs as never[]));
      process.exitCode = typeof code === "number" ? code : 0;
    } finally {
      output.end();
    }
  };
}

/** Examples behind a command's help: what to type, and what it does. */
export function examples(list: Readonly<Record<string, string>>): string {
  const lines = Object.entries(list).map(([call, what]) => `  # ${what}\n  ${call}`);
  return `\nExamples:\n${lines.join("\n\n")}`;
}

/** Reads a number of the command line: `.option("--lr <number>", "…", number("--lr"))`. */
export function number(flag: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && !Number.isNaN(value)) return value;
    throw new UsageError({ op: "lowrank", arg: flag, expected: "a number", got: `"${text}"` });
  };
}

/** Reads `a,b,c`, and collects what several flags of the name give. */
export function list(text: string, before: readonly string[] = []): string[] {
  const words = text.split(",").map((word) => word.trim());
  return [...before, ...words.filter((word) => word !== "")];
}
