// The lines of a file of any size: read in pieces, so that no more than a piece and a line are in memory.
import { FormatError } from "../../gpu/errors.ts";

export interface Line {
  /** From 1 on. */
  number: number;
  /** Without its end; null where the bytes are not UTF-8. */
  text: string | null;
}

const NEWLINE = 10;
const PIECE_BYTES = 1 << 16;

/**
 * The lines of a file, one after the other.
 * @param path  file name
 * @throws FormatError where it cannot be read
 */
export async function* readLines(path: string): AsyncGenerator<Line, void> {
  const { open } = await import("../../tensor/disk.node.ts");
  const file = await open(path, "r").catch((error: Error) => refuse(path, error));
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const buffer = new Uint8Array(PIECE_BYTES);
    let number = 0;
    let parts: Uint8Array[] = []; // of a line that has not ended
    for (;;) {
      const { bytesRead } = await file.read(buffer).catch((error: Error) => refuse(path, error));
      if (bytesRead === 0) break;
      let from = 0;
      const piece = buffer.subarray(0, bytesRead);
      for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, from)) {
        yield { number: ++number, text: decode([...parts, piece.subarray(from, at)], decoder) };
        parts = [];
        from = at + 1;
      }
      if (from < bytesRead) parts.push(piece.slice(from)); // a copy: the buffer is written again
    }
    if (parts.length > 0) yield { number: number + 1, text: decode(parts, decoder) };
  } finally {
    await file.close();
  }
}

function decode(parts: readonly Uint8Array[], decoder: TextDecoder): string | null {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  try {
    return decoder.decode(bytes).replace(/\r$/, "");
  } catch {
    return null;
  }
}

function refuse(path: string, error: Error): never {
  const got = error.message.replace(/, (open|read)\b.*$/s, ""); // "ENOENT: no such file …"
  throw new FormatError({ op: "data", arg: path, expected: "a file that can be read", got });
}
