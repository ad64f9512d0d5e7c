// What a data set holds, before it is cut into rows: samples and their lengths, tokens, bytes of text.
import { type LoadOptions, loadData } from "../data/load.ts";
import { IGNORED } from "../rows.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

export interface DataFacts {
  samples: number;
  /** Tokens of all samples, and those of them that are learnt. */
  tokens: number;
  learnt: number;
  /** Tokens of the longest sample. */
  longest: number;
  /** Bytes of text that a token stands for, on average. */
  bytesPerToken: number;
}

/** So many tokens tell how many bytes one stands for. */
const ENOUGH = 20_000;

/**
 * Reads data whole.
 * @throws FormatError for bad samples
 */
export async function lookAtData(
  tokenizer: Tokenizer,
  options: Omit<LoadOptions, "length" | "valid">,
): Promise<DataFacts> {
  const { train: set, counts } = await loadData(tokenizer, options);
  let [learnt, longest, bytes, seen] = [0, 0, 0, 0];
  for (let i = 0; i < set.count; i++) {
    const { ids, labels } = set.at(i);
    longest = Math.max(longest, ids.length);
    for (const label of labels) learnt += label === IGNORED ? 0 : 1;
    if (seen >= ENOUGH) continue;
    const some = ids.subarray(0, ENOUGH);
    bytes += Buffer.byteLength(tokenizer.decode(some, { skipSpecialTokens: true }));
    seen += some.length;
  }
  const { tokens } = set;
  set.dispose();
  const bytesPerToken = bytes / Math.max(1, seen);
  return { samples: counts.samples, tokens, learnt, longest, bytesPerToken };
}
