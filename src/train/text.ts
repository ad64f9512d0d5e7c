// Bytes as tokens: the tokenizer of small models. Every text has one, and the vocabulary is 256.
import { FormatError } from "../gpu/errors.ts";

export const BYTE_VOCABULARY = 256;

/** UTF-8 bytes of a text, one token each. */
export function encodeBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The text of byte tokens; what is not UTF-8 becomes �. */
export function decodeBytes(tokens: ArrayLike<number>): string {
  return new TextDecoder().decode(Uint8Array.from(tokens));
}

/**
 * The text of a file, checked to be worth training on.
 * @param path  file name
 * @param atLeast  fewest bytes that make sense
 * @throws FormatError for a missing, empty, tiny or binary file
 */
export async function readText(path: string, atLeast = 1): Promise<Uint8Array> {
  const { readFile } = await import("../tensor/disk.node.ts");
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const got = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    const expected = "a file that can be read";
    throw new FormatError({ op: "readText", arg: path, expected, got });
  }
  if (bytes.length < atLeast) {
    throw new FormatError({
      op: "readText",
      arg: path,
      expected: `at least ${atLeast} bytes of text`,
      got: bytes.length === 0 ? "an empty file" : `${bytes.length}`,
      hint: "Training and validation windows must both fit.",
    });
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (!text.includes("\0")) return bytes;
  } catch {
    // Not UTF-8: refused below.
  }
  throw new FormatError({
    op: "readText",
    arg: path,
    expected: "UTF-8 text",
    got: "binary data",
    hint: "Convert it to plain text first.",
  });
}
