// The data of a run: files to rows to train on, to validate with, and to see on them what is forgotten.
import { FormatError } from "../../gpu/errors.ts";
import type { LMSizes } from "../../nn/causal_lm.ts";
import { type Augmentation, AugmentedRows, exampleMixing, tokenDropout } from "../data/augment.ts";
import { BucketedRows } from "../data/bucketed.ts";
import type { ExampleSet } from "../data/example_set.ts";
import {
  emptySet,
  type LoadCounts,
  type LoadedData,
  type LoadOptions,
  loadData,
  notesOn,
} from "../data/load.ts";
import { PackedRows } from "../data/packing.ts";
import { dataFiles, isJsonl } from "../data/read.ts";
import { PaddedRows } from "../data/row_set.ts";
import { type Replay, ShuffledRows } from "../data/shuffled_rows.ts";
import { IGNORED, type RowSet, type TrainingRows } from "../rows.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { Windows } from "../windows.ts";
import { configError } from "./config_error.ts";
import type { FullConfig } from "./schema.ts";

type DataConfig = FullConfig["data"];

export interface RunData {
  train: TrainingRows;
  /** The rows of the data that is learnt, in their order, without those of the replay. */
  own: RowSet;
  valid: RowSet | null;
  general: RowSet | null;
  counts: LoadCounts;
  /** Tokens to train on, in all files together. */
  tokens: number;
  /** T, tokens of a row. */
  length: number;
  /** What one should know of it. */
  notes: string[];
}

/** What is held out where the configuration does not say. */
const USUAL_SHARE = 0.1;
const USUAL_LENGTH = 512;

/**
 * Reads a run's data.
 * @param sizes  of the model
 * @throws ConfigError for what does not fit the model or the rows, FormatError for bad samples, as `loadData`
 */
export async function readRunData(
  config: DataConfig,
  tokenizer: Tokenizer,
  { maxLength, vocabSize }: Pick<LMSizes, "maxLength" | "vocabSize">,
): Promise<RunData> {
  const { length = Math.min(maxLength, USUAL_LENGTH) } = config;
  if (length > maxLength) {
    const expected = `at most ${maxLength}, the model's context`;
    throw configError({ key: "data.length", expected, got: length });
  }
  const notes: string[] = [];
  const options = (paths: readonly string[]) => loadOptions(config, paths, length);
  const { train, valid, counts } = await split(config, tokenizer, options, length, notes);
  const rowsOf = (set: ExampleSet, key: string) => cut(set, config.rows, length, key);
  const also = async (paths: readonly string[], key: string) => {
    const { texts, samples } = await filesByKind(paths);
    const load = async (files: readonly string[], long: DataConfig["long"]) => {
      if (files.length === 0) return null;
      const loaded = await loadData(tokenizer, { ...options(files), long });
      notes.push(...notesOn(loaded.counts, long).map((note) => `${key}: ${note}`));
      return loaded;
    };
    const text = await load(texts, "split"); // whatever is asked of what is learnt
    return rowsOf(both(text, await load(samples, config.long)).train, key);
  };
  const { replay, general } = config;
  const rows = rowsOf(train, "data.train");
  const mixed = replay?.data
    ? { rows: await also(replay.data, "data.replay.data"), share: replay.share }
    : null;
  notes.push(...notesOn(counts, config.long));
  return {
    train: trainingRows(rows, mixed, config, vocabSize),
    own: rows,
    valid: valid && rowsOf(valid, "data.valid"),
    general: general ? await also(general, "data.general") : null,
    counts,
    tokens: train.tokens,
    length,
    notes,
  };
}

/** What is trained on: rows in an order of each epoch's own, with replay and augmentations. */
export function trainingRows(
  own: RowSet,
  replay: Replay | null,
  { augment: { token_dropout, mixing } = {}, bucketed }: DataConfig,
  vocabSize: number,
): TrainingRows {
  const changes: Augmentation[] = [];
  if (mixing !== undefined) changes.push(exampleMixing(mixing));
  if (token_dropout !== undefined) changes.push(tokenDropout(token_dropout, { below: vocabSize }));
  const isBucketed = bucketed && own instanceof PaddedRows;
  const rows = isBucketed
    ? new BucketedRows(own.examples, own.length)
    : new ShuffledRows(own, replay);
  return changes.length === 0 ? rows : new AugmentedRows(rows, ...changes);
}

function loadOptions(
  { long, learn, turns, skip_bad: skipBad, split_seed: splitSeed, rows, spill }: DataConfig,
  train: readonly string[],
  length: number,
): LoadOptions {
  const how = {
    train,
    learn,
    turns,
    skipBad,
    splitSeed,
    ...(spill === undefined ? {} : { spill }),
  };
  return rows === "windows" ? how : { ...how, length, long }; // windows: whole, for parts of a split share a token
}

/** The files of data: plain texts, and those of JSONL. */
export async function filesByKind(paths: readonly string[]) {
  const files = (await Promise.all(paths.map(dataFiles))).flat();
  const isSamples = (file: string) => /\.json$/i.test(file) || isJsonl(file);
  return { texts: files.filter((file) => !isSamples(file)), samples: files.filter(isSamples) };
}

/** Samples are held out by their content. Plain text has few of them, so its end is held out instead. */
async function split(
  config: DataConfig,
  tokenizer: Tokenizer,
  options: (paths: readonly string[]) => LoadOptions,
  length: number,
  notes: string[],
): Promise<LoadedData> {
  const { train: paths, valid: asked } = config;
  if (asked === 0) return loadData(tokenizer, options(paths));
  const valid = asked ?? USUAL_SHARE;
  if (typeof valid !== "number") return loadData(tokenizer, { ...options(paths), valid });
  const { texts, samples } = await filesByKind(paths);
  const text =
    texts.length > 0
      ? await endHeldOut(await loadData(tokenizer, options(texts)), valid, config, length)
      : null;
  const mayBeNone = asked === undefined || text?.valid != null;
  const sample =
    samples.length > 0
      ? await someHeldOut(tokenizer, { ...options(samples), valid }, mayBeNone)
      : null;
  const all = both(text, sample);
  if (!all.valid) notes.push(NONE_HELD_OUT[sample ? "samples" : "text"]);
  return all;
}

const NONE_HELD_OUT = {
  text: "nothing is held out, for the text fits one row; shorten data.length to validate",
  samples: `nothing is held out, for a share of ${USUAL_SHARE} of the samples is none; see data.valid`,
};

/** Puts a set's examples behind those of another, and frees it. */
function pour(from: ExampleSet, into: ExampleSet): void {
  for (let i = 0; i < from.count; i++) into.add(from.at(i));
  from.dispose();
}

/** Plain text without its end; as it is where that leaves no row. */
async function endHeldOut(
  whole: LoadedData,
  share: number,
  { rows, spill }: DataConfig,
  length: number,
): Promise<LoadedData> {
  const { train: all } = whole;
  const end = rows === "windows" ? endOfTokens(all, share, length) : endOfExamples(all, share);
  if (end === null) return whole;
  const parts = { train: await emptySet(spill), valid: await emptySet(spill) };
  let start = 0;
  for (let i = 0; i < all.count; i++) {
    const { ids, labels } = all.at(i);
    const at = Math.min(ids.length, Math.max(0, end - start));
    const part = (from: number, to: number) => ({ ids: ids.slice(from, to), labels: labels.slice(from, to) }); // biome-ignore format: one line
    if (at > 0) parts.train.add(part(0, at));
    if (at < ids.length) parts.valid.add(part(at, ids.length));
    start += ids.length;
  }
  all.dispose();
  return { ...whole, ...parts };
}

/** Without the samples that are held out; `mayBeNone`: where these are none, all of them. */
async function someHeldOut(
  tokenizer: Tokenizer,
  options: LoadOptions,
  mayBeNone: boolean,
): Promise<LoadedData> {
  try {
    return await loadData(tokenizer, options);
  } catch (error) {
    if (!mayBeNone || !(error instanceof FormatError) || error.arg !== "valid") throw error;
    const { valid: _, ...all } = options;
    return loadData(tokenizer, all);
  }
}

/** Both as one, the second behind the first; that which there is. */
function both(a: LoadedData | null, b: LoadedData | null): LoadedData {
  if (!a || !b) return (a ?? b)!;
  pour(b.train, a.train);
  if (a.valid && b.valid) pour(b.valid, a.valid);
  const valid = a.valid ?? b.valid;
  const counts: LoadCounts = {
    samples: a.counts.samples + b.counts.samples,
    bad: a.counts.bad + b.counts.bad,
    problems: [...a.counts.problems, ...b.counts.problems].slice(0, 10),
    long: a.counts.long + b.counts.long,
    dropped: a.counts.dropped + b.counts.dropped,
  };
  return { train: a.train, valid, counts };
}

/** Where the last examples begin, in tokens; null where there is but one. */
function endOfExamples(set: ExampleSet, share: number): number | null {
  if (set.count < 2) return null;
  const held = Math.min(set.count - 1, Math.max(1, Math.round(share * set.count)));
  let end = set.tokens;
  for (let i = set.count - held; i < set.count; i++) end -= set.sizeOf(i);
  return end;
}

/** Where the last tokens begin, at least a window of them; null where that leaves no window. */
function endOfTokens(set: ExampleSet, share: number, length: number): number | null {
  const window = length + 1;
  const end = set.tokens - Math.max(window, Math.round(share * set.tokens));
  return end < window ? null : end;
}

/** A set's examples as rows. */
export function cut(
  set: ExampleSet,
  kind: DataConfig["rows"],
  length: number,
  key: string,
): RowSet {
  if (kind === "packed") return new PackedRows(set, length);
  if (kind === "padded") return new PaddedRows(set, length);
  for (let i = 0; i < set.count; i++) {
    if (!set.at(i).labels.includes(IGNORED, 1)) continue;
    const expected = "plain text where data.rows is windows, for windows learn every token";
    const hint = "Use packed rows, or data.learn all.";
    throw configError({ key, expected, got: "prompts or chats", hint });
  }
  if (set.tokens > length) return new Windows(set.text, length);
  const expected = `of more than ${length} tokens, a window`;
  throw configError({ key, expected, got: `${set.tokens}`, hint: "Shorten data.length." });
}
