// What the user asks of the demo.
import { access, constants, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fromHere } from "../../scripts/from_here.ts";
import { LowrankError, ValueError } from "../../src/gpu/errors.ts";
import { arms } from "./settings.ts";

const root = join(import.meta.dirname, "../..");

export interface Options {
  /** The user's own text. */
  text: string | undefined;
  steps: number;
  /** Folder of the results. */
  out: string;
}

/**
 * Reads the command line; paths are relative to where the user stands.
 * @throws LowrankError for an option that there is not, ValueError for steps that make no training
 */
export function readOptions(args: readonly string[]): Options {
  const values = parse(args);
  const steps = Number(values.steps ?? arms.steps);
  if (!Number.isSafeInteger(steps) || steps < 2) {
    const got = values.steps || "nothing";
    throw new ValueError({ op: "demo", arg: "--steps", expected: "an integer above 1", got });
  }
  return {
    text: values.text === undefined ? undefined : fromHere("demo", values.text),
    steps,
    out: values.out === undefined ? join(root, "out/demo") : fromHere("demo", values.out),
  };
}

/**
 * Makes the folder of the results before the training that is to end there.
 * @throws ValueError where nothing can be written to it
 */
export async function prepareFolder(out: string): Promise<void> {
  try {
    await mkdir(out, { recursive: true });
    await access(out, constants.W_OK);
  } catch (error) {
    const expected = "a folder that can be written to";
    throw new ValueError({ op: "demo", arg: "--out", expected, got: (error as Error).message });
  }
}

function parse(args: readonly string[]) {
  const option = { type: "string" } as const;
  try {
    return parseArgs({ args: [...args], options: { text: option, steps: option, out: option } })
      .values;
  } catch (error) {
    throw new LowrankError(`demo: ${(error as Error).message}`);
  }
}
