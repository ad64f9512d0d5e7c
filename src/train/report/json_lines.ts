// JSON lines of a run: whole ones are taken, a torn end is forgiven, other damage is counted.
import { readLines } from "../data/lines.ts";
import { Facts } from "./facts.ts";

export interface JsonLines {
  lines: Facts[];
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
  const lines: Facts[] = [];
  const damaged: number[] = [];
  let last = 0;
  for await (const { number, text } of readLines(path)) {
    if (text?.trim() === "") continue;
    last = number;
    const value = parsed(text);
    if (value === null) damaged.push(number);
    else lines.push(new Facts(value));
  }
  const torn = damaged.at(-1) === last && last > 0;
  if (torn) damaged.pop();
  return { lines, damaged, torn };
}

function parsed(text: string | null): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text ?? "");
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
