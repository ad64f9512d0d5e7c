// loadData: files to examples for training and for validation, with an account of what became of each sample.
import { FormatError, ValueError } from "../../gpu/errors.ts";
import { checkCount } from "../rows.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type EncodeOptions, type Example, encodeSample, learntTokens } from "./encode.ts";
import { ExampleSet } from "./example_set.ts";
import { type Found, isJsonl, readSamples } from "./read.ts";
import { checkShare, isHeldOut } from "./split.ts";
import { FileTokens } from "./token_store.ts";

export interface LoadOptions extends EncodeOptions {
  /** Files and folders to train on. */
  train: readonly string[];
  /** What is held out: files and folders of its own, or the share of samples, chosen by their content. */
  valid?: readonly string[] | number;
  /** Chooses which samples are held out. Default 0. */
  splitSeed?: number;
  /**
   * T, tokens that the model sees at once. An example holds one more, for the last one is only learnt. Absent:
   * examples of any length stay whole, for `new Windows(train.text, T)`.
   */
  length?: number;
  /**
   * What becomes of longer examples. `error` (default); `truncate`: their first tokens are kept; `drop`; `split`:
   * cut into parts, each of which begins with the last token of the one before, which it does not learn again;
   * `auto`: those of plain text are split, lines of JSONL are an error.
   */
  long?: "auto" | "error" | "truncate" | "drop" | "split";
  /** Passes over samples that cannot be used, and counts them, instead of throwing. Default false. */
  skipBad?: boolean;
  /**
   * Folder on a disk where the tokens are kept, 4 bytes each, in place of memory: for data larger than memory. Their
   * files have no names and go with the process.
   */
  spill?: string;
}

/** What became of the samples. */
export interface LoadCounts {
  samples: number;
  /** Passed over by `skipBad`, and the first ten of them with file, line and reason. */
  bad: number;
  problems: string[];
  /** Longer than the context, whatever became of them. */
  long: number;
  /** Long ones that were dropped, or of which truncation left nothing to learn. */
  dropped: number;
}

export interface LoadedData {
  train: ExampleSet;
  /** Null where none was asked for. */
  valid: ExampleSet | null;
  counts: LoadCounts;
}

const samples = (n: number) => (n === 1 ? "1 sample" : `${n} samples`);

/** What one should know of samples that were not used as they are, in sentences. */
export function notesOn(
  { bad, long, dropped, problems }: LoadCounts,
  way: LoadOptions["long"],
): string[] {
  const cut = way === "truncate" ? long - dropped : 0;
  return [
    ...(bad > 0 ? [`${samples(bad)} passed over as bad: ${problems[0]}`] : []),
    ...(cut > 0 ? [`${samples(cut)} cut, as too long`] : []),
    ...(dropped > 0 ? [`${samples(dropped)} dropped as too long`] : []),
  ];
}

const WAYS = ["auto", "error", "truncate", "drop", "split"];

/**
 * Reads, encodes and splits data.
 * @throws FormatError with file, line and reason for a sample that cannot be used, and where nothing is left to
 *   train on or to validate with; ValueError for options out of range
 */
export async function loadData(tokenizer: Tokenizer, options: LoadOptions): Promise<LoadedData> {
  const { valid, length, long = "error", splitSeed = 0 } = options;
  if (length !== undefined) checkCount("data", "length", length);
  if (!WAYS.includes(long)) {
    const expected = `one of ${WAYS.join(", ")}`;
    throw new ValueError({ op: "data", arg: "long", expected, got: `${long}` });
  }
  if (typeof valid === "number") checkShare("data", "valid", valid);
  const counts: LoadCounts = { samples: 0, bad: 0, problems: [], long: 0, dropped: 0 };
  const sets = { train: await emptySet(options.spill), valid: await emptySet(options.spill) };
  const read = async (paths: readonly string[], share: number, into: ExampleSet) => {
    for await (const found of readSamples(paths)) {
      const examples = await examplesOf(tokenizer, found, options, counts);
      const { sample } = found;
      const target = sample && isHeldOut(sample, share, splitSeed) ? sets.valid : into;
      for (const example of examples) target.add(example);
    }
  };
  await read(options.train, typeof valid === "number" ? valid : 0, sets.train);
  if (Array.isArray(valid)) await read(valid, 0, sets.valid);
  if (sets.train.count === 0) {
    const isHeld = typeof valid === "number" && sets.valid.count > 0;
    const rest = isHeld ? "; all others are held out" : "";
    const hint = isHeld ? "Equal samples are held out together: name files of their own." : "";
    throw nothing(namesOf(options.train), counts, rest, hint);
  }
  if (valid !== undefined && sets.valid.count === 0) {
    const names = namesOf(Array.isArray(valid) ? valid : options.train);
    const hint = "Hold out a larger share, or name files of their own.";
    throw nothing("valid", counts, ` from ${names}`, hint);
  }
  return { train: sets.train, valid: valid === undefined ? null : sets.valid, counts };
}

/** A set without examples, whose tokens are kept in memory or in a folder. */
export async function emptySet(spill: string | undefined): Promise<ExampleSet> {
  return new ExampleSet([], spill === undefined ? undefined : await FileTokens.open(spill));
}

async function examplesOf(
  tokenizer: Tokenizer,
  { file, line, sample, problem }: Found,
  options: LoadOptions,
  counts: LoadCounts,
): Promise<Example[]> {
  counts.samples += 1;
  const refuse = (why: string, hint: string) =>
    new FormatError(`data: ${file}, line ${line}: ${why}. ${hint}`);
  let example: Example;
  try {
    if (!sample) throw new Error(problem);
    example = await encodeSample(tokenizer, sample, options);
    if (learntTokens(example) === 0) throw new Error("no token to learn from another");
  } catch (error) {
    const why = (error as Error).message.replace(/\.$/, "");
    if (!options.skipBad) {
      throw refuse(
        why,
        "Mend it, or pass over such samples: skipBad, or --skip-bad of the command.",
      );
    }
    counts.bad += 1;
    if (counts.problems.length < 10) counts.problems.push(`${file}, line ${line}: ${why}`);
    return [];
  }
  const n = example.ids.length;
  const { length = n, long: asked = "error" } = options;
  if (n <= length + 1) return [example];
  const long = asked !== "auto" ? asked : isJsonl(file) ? "error" : "split";
  if (long !== "error") return cut(example, length, long, counts);
  throw refuse(
    `${n} tokens, but ${length + 1} fit`,
    "Truncate, drop or split long ones: long, or --long of the command.",
  );
}

/** What becomes of an example longer than the context: its first tokens, parts, or nothing. */
function cut(
  example: Example,
  length: number,
  long: "truncate" | "drop" | "split",
  counts: LoadCounts,
): Example[] {
  counts.long += 1;
  const part = (from: number): Example => {
    const labels = example.labels.slice(from, from + length + 1);
    return { ids: example.ids.slice(from, from + length + 1), labels };
  };
  const count = Math.ceil((example.ids.length - 1) / length);
  const starts = Array.from({ length: count }, (_, i) => i * length);
  const parts = long === "drop" ? [] : long === "truncate" ? [part(0)] : starts.map(part);
  const kept = parts.filter((one) => learntTokens(one) > 0);
  if (kept.length === 0) counts.dropped += 1;
  return kept;
}

const namesOf = (paths: readonly string[]) =>
  paths.slice(0, 3).join(", ") + (paths.length > 3 ? ", …" : "");

function nothing(arg: string, counts: LoadCounts, from = "", hint = ""): FormatError {
  const got = `none of ${samples(counts.samples)} (${counts.bad} bad, ${counts.dropped} too long)${from}`;
  return new FormatError({ op: "data", arg, expected: "at least one example", got, hint });
}
