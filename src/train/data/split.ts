// The split by content: a sample's side depends on nothing but the sample, so that more data moves none.
import { ValueError } from "../../gpu/errors.ts";
import { ContentHash } from "../content_hash.ts";
import type { Sample } from "./sample.ts";

/**
 * Whether a sample is held out. Equal samples are on the same side.
 * @param share  of samples that are, in [0, 1)
 * @param seed  another one holds out others
 */
export function isHeldOut(sample: Sample, share: number, seed = 0): boolean {
  if (share === 0) return false;
  const [word] = new ContentHash(seed).addText(contentOf(sample)).words();
  return word < share * 2 ** 32;
}

function contentOf(sample: Sample): string {
  if (sample.kind === "text") return JSON.stringify([sample.text]);
  if (sample.kind === "chat") return JSON.stringify(sample.messages);
  return JSON.stringify([sample.prompt, sample.completion]);
}

/** Throws ValueError unless 0 < share < 1. */
export function checkShare(op: string, arg: string, share: number): void {
  if (share > 0 && share < 1) return;
  throw new ValueError({ op, arg, expected: "between 0 and 1", got: `${share}` });
}
