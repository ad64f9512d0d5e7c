// The smallest reader of tar archives: plain files with plain names, everything else refused or left out.
import { FormatError } from "./errors.ts";

const BLOCK = 512;

/**
 * Reads the regular files of an uncompressed tar archive; folders and links are left out.
 * @throws FormatError for a wrong checksum, a truncated file, a name twice or a name with a path.
 */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  let at = 0;
  while (at + BLOCK <= archive.length) {
    const header = archive.subarray(at, at + BLOCK);
    at += BLOCK;
    if (header.every((byte) => byte === 0)) return files;
    checkSum(header, at - BLOCK);
    const size = octal(header, 124, 12, "size");
    if (at + size > archive.length) throw refuse(`the file at byte ${at} runs past the end`);
    const type = header[156]!;
    if (type === 0 || type === 0x30) {
      const name = plainName(header);
      if (files.has(name)) throw refuse(`${name} is there twice`);
      files.set(name, archive.subarray(at, at + size));
    }
    at += Math.ceil(size / BLOCK) * BLOCK;
  }
  throw refuse("it ends without an end mark");
}

function plainName(header: Uint8Array): string {
  const prefix = text(header, 345, 155);
  const name = (prefix ? `${prefix}/` : "") + text(header, 0, 100).replace(/^\.\//, "");
  // Only the file's own name: no folders, no `..`, nothing hidden.
  if (/^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/.test(name)) return name;
  throw refuse(`${JSON.stringify(name)} is no plain file name`);
}

/** The sum of all header bytes, the checksum's own eight read as blanks. */
function checkSum(header: Uint8Array, at: number): void {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : header[i]!;
  if (sum !== octal(header, 148, 8, "checksum"))
    throw refuse(`the header at byte ${at} is damaged`);
}

function octal(header: Uint8Array, start: number, length: number, what: string): number {
  const digits = text(header, start, length).trim();
  if (/^[0-7]{1,11}$/.test(digits)) return Number.parseInt(digits, 8);
  throw refuse(`a ${what} is no octal number`);
}

function text(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return String.fromCharCode(...(end < 0 ? field : field.subarray(0, end)));
}

function refuse(why: string): FormatError {
  return new FormatError({
    op: "tar",
    arg: "the archive",
    expected: "an intact tar file",
    hint: why,
  });
}
