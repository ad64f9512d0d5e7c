// JSON lines of runs and sweeps: whole ones are taken, a torn end is forgiven, other damage is counted.
import { readLines } from "./data/lines.ts";

export type JsonObject = Record<string, unknown>;

export interface JsonLines {
  lines: JsonObject[];
  /** Numbers of lines that are no JSON object, but for a torn last one. */
  damaged: number[];
  /** Whether the last line ends in its middle: its writer was killed, or is writing. */
  torn: boolean;
}

/**
 * The objects of a JSONL file.
 * @param path  file name
 * @throws FormatError where it cannot be read
 */
export async function readJsonLines(path: string): Promise<JsonLines> {
  const lines: JsonObject[] = [];
  const damaged: number[] = [];
  let last = 0;
  for await (const { number, text } of readLines(path)) {
    if (text?.trim() === "") continue;
    last = number;
    const value = jsonObjectOf(text);
    if (value === null) damaged.push(number);
    else lines.push(value);
  }
  const torn = damaged.at(-1) === last && last > 0;
  if (torn) damaged.pop();
  return { lines, damaged, torn };
}

/** The object that a line holds; null where it holds none, or was cut off. */
export function jsonObjectOf(line: string | null): JsonObject | null {
  try {
    const value = JSON.parse(line ?? "");
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
