// Text that repeats itself: what stands in held-out text too is taken out of the text to train on.

/** No held-out text may share this many bytes in a row with training text. */
export const PASSAGE = 48;
const LONGEST_LINE = 200;

/**
 * A text without the lines that touch a passage which stands in held-out text too.
 * Passages are compared by 32-bit hashes: all that are equal are found, and about one line in 20,000 goes in vain.
 * @param text  bytes to train on; lines longer than 200 bytes are taken in pieces
 * @param held  texts that are held out
 * @param length  bytes of a passage
 */
export function withoutPassages(
  text: Uint8Array,
  held: readonly Uint8Array[],
  length = PASSAGE,
): Uint8Array {
  const known = new Set<number>();
  for (const part of held) for (const hash of hashes(part, length)) known.add(hash);
  for (let rest = text; ; ) {
    const shared = new Uint8Array(rest.length);
    hashes(rest, length).forEach((hash, start) => {
      if (known.has(hash)) shared.fill(1, start, start + length);
    });
    if (!shared.includes(1)) return rest;
    // Again, for lines that have become neighbours may make a new passage.
    rest = Buffer.concat(
      lines(rest)
        .filter((line) => !shared.subarray(...line).includes(1))
        .map((line) => rest.subarray(...line)),
    );
  }
}

/** Hash of every `length` bytes in a row: Σ byteₖ · 31ᵏ mod 2³², the last byte with k = 0. */
function hashes(text: Uint8Array, length: number): Uint32Array {
  const out = new Uint32Array(Math.max(0, text.length - length + 1));
  let first = 1; // 31^length, the weight of a byte that leaves
  for (let i = 0; i < length; i++) first = Math.imul(first, 31);
  let hash = 0;
  text.forEach((byte, i) => {
    hash = (Math.imul(hash, 31) + byte + 1) | 0;
    if (i >= length) hash = (hash - Math.imul(first, text[i - length]! + 1)) | 0;
    if (i >= length - 1) out[i - length + 1] = hash;
  });
  return out;
}

/** First and last byte, exclusive, of every line. */
function lines(text: Uint8Array): [start: number, end: number][] {
  const found: [number, number][] = [];
  for (let start = 0; start < text.length; ) {
    const end = lineEnd(text, start);
    found.push([start, end]);
    start = end;
  }
  return found;
}

/** Where the line that holds this byte ends, at most 200 bytes on and never within a character. */
export function lineEnd(text: Uint8Array, at: number): number {
  const newline = text.subarray(at, at + LONGEST_LINE).indexOf(10);
  if (newline >= 0) return at + newline + 1;
  return characterStart(text, Math.min(text.length, at + LONGEST_LINE));
}

/** The start of the UTF-8 character that holds this byte. */
export function characterStart(text: Uint8Array, at: number): number {
  let start = at;
  while (start > 0 && start < text.length && (text[start]! & 0xc0) === 0x80) start--;
  return start;
}
