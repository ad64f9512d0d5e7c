// The lines of a file of any size: read in pieces, so that no more than a piece and a line are in memory.
import { FormatError } from "../../gpu/errors.ts";

export interface Line {
  /** From 1 on. */
  number: number;
  /** Without its end; null where the bytes are not UTF-8. */
  text: string | null;
  /** The next one is more of the same line. */
  goesOn?: boolean;
}

const [NEWLINE, BLANK] = [10, 32];
const PIECE_BYTES = 1 << 16;

/**
 * The lines of a file, one after the other.
 * @param path  file name
 * @param most  bytes of a line from which on it comes in parts, each cut before its last blank where it has one.
 *   Default: lines are whole
 * @throws FormatError where it cannot be read
 */
export async function* readLines(path: string, most = Infinity): AsyncGenerator<Line, void> {
  const { open } = await import("../../tensor/disk.node.ts");
  const file = await open(path, "r").catch((error: Error) => refuse(path, error));
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const buffer = new Uint8Array(PIECE_BYTES);
    let number = 0;
    let parts: Uint8Array[] = []; // of a line that has not ended
    let held = 0; // bytes of these
    for (;;) {
      const { bytesRead } = await file.read(buffer).catch((error: Error) => refuse(path, error));
      if (bytesRead === 0) break;
      let from = 0;
      const piece = buffer.subarray(0, bytesRead);
      for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, from)) {
        yield { number: ++number, text: decode([...parts, piece.subarray(from, at)], decoder) };
        [parts, held] = [[], 0];
        from = at + 1;
      }
      if (from === bytesRead) continue;
      parts.push(piece.slice(from)); // a copy: the buffer is written again
      held += bytesRead - from;
      if (held < most) continue;
      const bytes = joined(parts);
      const end = endOfPart(bytes);
      yield { number: number + 1, text: decode([bytes.subarray(0, end)], decoder), goesOn: true };
      [parts, held] = [[bytes.slice(end)], bytes.length - end];
    }
    if (parts.length > 0) yield { number: number + 1, text: decode(parts, decoder) };
  } finally {
    await file.close();
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Where a part of a line ends: before its last blank, or between two characters. */
function endOfPart(bytes: Uint8Array): number {
  const blank = bytes.lastIndexOf(BLANK);
  if (blank > 0) return blank;
  let end = bytes.length - 1;
  while (end > 1 && (bytes[end]! & 0xc0) === 0x80) end--;
  return end;
}

function decode(parts: readonly Uint8Array[], decoder: TextDecoder): string | null {
  try {
    return decoder.decode(joined(parts)).replace(/\r$/, "");
  } catch {
    return null;
  }
}

function refuse(path: string, error: Error): never {
  const got = error.message.replace(/, (open|read)\b.*$/s, ""); // "ENOENT: no such file …"
  throw new FormatError({ op: "data", arg: path, expected: "a file that can be read", got });
}
