// Writes tar archives for tests, wrong ones too.

export interface TarEntry {
  name: string;
  text?: string;
  /** Kind of entry: "0" a file (default), "1" a hard link, "2" a symbolic link, "5" a folder. */
  type?: string;
  link?: string;
  prefix?: string;
  /** A size other than the text's, as a number or as the field's own characters. */
  size?: number;
  sizeText?: string;
  /** Added to the checksum, to spoil it. */
  checksum?: number;
}

const BLOCK = 512;

/** The archive with its end mark of two empty blocks. */
export function tar(entries: readonly TarEntry[]): Uint8Array {
  return Buffer.concat([...entries.flatMap(blocks), Buffer.alloc(2 * BLOCK)]);
}

function blocks(entry: TarEntry): Buffer[] {
  const body = Buffer.from(entry.text ?? "");
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  header.write(entry.name, 0, "latin1");
  header.write("0000644", 100);
  header.write(entry.sizeText ?? octal(entry.size ?? body.length, 11), 124, "latin1");
  header.write(entry.type ?? "0", 156);
  header.write(entry.link ?? "", 157);
  header.write("ustar\x0000", 257, "latin1");
  header.write(entry.prefix ?? "", 345);
  header.fill(" ", 148, 156);
  const sum = header.reduce((a, b) => a + b, 0) + (entry.checksum ?? 0);
  header.write(`${octal(sum, 6)}\0 `, 148, "latin1");
  return [header, body, Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK)];
}
