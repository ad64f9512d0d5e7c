// Reading: files and folders to samples, one at a time, each with the place that it came from.
import { FormatError } from "../../gpu/errors.ts";
import { type Line, readLines } from "./lines.ts";
import { parseSample, type Sample } from "./sample.ts";

/** A sample, or why there is none, and where it stands. */
export interface Found {
  file: string;
  /** Its first line, from 1 on. */
  line: number;
  sample: Sample | null;
  /** Where the sample is null: what is wrong. */
  problem?: string;
}

/** Whether a file holds an object per line; any other is plain text. */
export const isJsonl = (file: string) => /\.(jsonl|ndjson)$/i.test(file);

const TEXT = /\.(txt|text|md)$/i;
/** Characters after which a plain text is cut, at the end of a line. */
const TEXT_PIECE = 1 << 16;
/** Bytes from which on a line of plain text is cut, too: there are texts of one line. */
const LONG_LINE = 1 << 20;

/**
 * The files that a name stands for: itself, or all JSONL and text files under a folder, in order of names.
 * @throws FormatError where a folder holds none
 */
export async function dataFiles(path: string): Promise<string[]> {
  const { readdir } = await import("../../tensor/disk.node.ts");
  let entries: string[];
  try {
    entries = await readdir(path, { recursive: true });
  } catch {
    return [path]; // no folder; whether it is a file, reading will tell
  }
  const files = entries.filter((name) => isJsonl(name) || TEXT.test(name)).sort();
  if (files.length > 0) return files.map((name) => `${path}/${name}`);
  throw new FormatError({
    op: "data",
    arg: path,
    expected: "a file, or a folder with .jsonl, .ndjson, .txt, .text or .md files",
    got: entries.length === 0 ? "an empty folder" : `a folder of ${entries.length} others`,
  });
}

/**
 * The samples of files and folders, read line by line: files may be larger than memory. `.jsonl` and `.ndjson`
 * hold a JSON object per line, empty lines between them do not count; any other file is plain text, which
 * comes in pieces of whole lines.
 * @param paths  files and folders
 * @throws FormatError for what cannot be read at all
 */
export async function* readSamples(paths: readonly string[]): AsyncGenerator<Found, void> {
  for (const path of paths) {
    for (const file of await dataFiles(path)) {
      if (/\.json$/i.test(file)) {
        const hint =
          "Write one object per line, for instance with jq -c '.[]', and name it .jsonl.";
        throw new FormatError({ op: "data", arg: file, expected: "JSONL", got: "JSON", hint });
      }
      yield* isJsonl(file) ? jsonSamples(file) : textPieces(file);
    }
  }
}

async function* jsonSamples(file: string): AsyncGenerator<Found, void> {
  for await (const { number: line, text } of readLines(file)) {
    if (text?.trim() === "") continue;
    try {
      if (text === null) throw new Error("not UTF-8");
      yield { file, line, sample: parseSample(text) };
    } catch (error) {
      yield { file, line, sample: null, problem: (error as Error).message };
    }
  }
}

async function* textPieces(file: string): AsyncGenerator<Found, void> {
  let held: string[] = [];
  let [first, size] = [1, 0];
  const piece = (goesOn: boolean): Found => {
    const text = held.join("");
    return { file, line: first, sample: { kind: "text", text, ...(goesOn ? { goesOn } : {}) } };
  };
  for await (const line of readLines(file, LONG_LINE)) {
    const problem = problemOf(line);
    if (problem) yield { file, line: line.number, sample: null, problem };
    if (size >= TEXT_PIECE) {
      yield piece(true);
      [held, first, size] = [[], line.number, 0];
    }
    if (problem) continue;
    held.push(line.text! + (line.goesOn ? "" : "\n"));
    size += line.text!.length + 1;
  }
  if (held.length > 0) held.push(held.pop()!.replace(/\n$/, ""));
  if (held.some((text) => text.trim() !== "")) yield piece(false);
}

function problemOf({ text }: Line): string | null {
  if (text === null) return "not UTF-8";
  return text.includes("\0") ? "binary data" : null;
}
