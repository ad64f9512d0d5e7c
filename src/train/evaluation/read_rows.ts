// Files as rows to be scored: a sample a row, long texts in parts.
import { ValueError } from "../../gpu/errors.ts";
import { type LoadOptions, loadData, notesOn } from "../data/load.ts";
import { PaddedRows, placesOf } from "../data/row_set.ts";
import type { RowSet } from "../rows.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

export interface ReadRowsOptions {
  /** The model's context. */
  maxLength: number;
  /** Most tokens of a row. Default: the context, at most 512. */
  length?: number;
  /** Which tokens count. Default completions. */
  learn?: "completions" | "all";
  /** What becomes of longer samples. Default auto: those of plain text are split, lines of JSONL are an error. */
  long?: "auto" | "error" | "truncate" | "drop" | "split";
  skipBad?: boolean;
}

const USUAL_LENGTH = 512;

/**
 * Reads files to rows as wide as the longest sample.
 * @returns the rows, and what one should know of them
 * @throws ValueError for a length beyond the context; FormatError as `loadData`
 */
export async function readRows(
  tokenizer: Tokenizer,
  paths: readonly string[],
  options: ReadRowsOptions,
): Promise<{ rows: RowSet; notes: string[] }> {
  const { maxLength, length = Math.min(maxLength, USUAL_LENGTH), learn, skipBad } = options;
  if (length > maxLength) {
    const expected = `at most ${maxLength}, the model's context`;
    throw new ValueError({ op: "readRows", arg: "length", expected, got: `${length}` });
  }
  const asked: LoadOptions = { train: paths, length, long: options.long ?? "auto" };
  if (learn !== undefined) asked.learn = learn;
  if (skipBad !== undefined) asked.skipBad = skipBad;
  const { train: set, counts } = await loadData(tokenizer, asked);
  let widest = 1;
  for (let i = 0; i < set.count; i++) widest = Math.max(widest, placesOf(set, i));
  return { rows: new PaddedRows(set, widest), notes: notesOn(counts, asked.long) };
}
