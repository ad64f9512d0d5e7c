// Token stores: where the tokens of a data set are kept, a word each: 2 · id + whether it is learnt.
import { DiskError } from "../../gpu/errors.ts";

/** Words behind one another, read by their place. */
export interface TokenStore {
  readonly length: number;
  push(words: Uint32Array): void;
  /** Words from … to − 1. */
  read(from: number, to: number): Uint16Array | Uint32Array;
  dispose(): void;
}

/** In memory: 2 bytes per token while every id is below 32,768, and 4 from then on. */
export class MemoryTokens implements TokenStore {
  length = 0;
  #words: Uint16Array | Uint32Array = new Uint16Array(1 << 12);

  push(words: Uint32Array): void {
    const needed = this.length + words.length;
    const isWide = this.#words.BYTES_PER_ELEMENT === 4 || words.some((word) => word > 0xffff);
    if (needed > this.#words.length || isWide !== (this.#words.BYTES_PER_ELEMENT === 4)) {
      const room = needed > this.#words.length ? 2 * needed : this.#words.length;
      const larger = isWide ? new Uint32Array(room) : new Uint16Array(room);
      larger.set(this.#words.subarray(0, this.length));
      this.#words = larger;
    }
    this.#words.set(words, this.length);
    this.length = needed;
  }

  read(from: number, to: number): Uint16Array | Uint32Array {
    return this.#words.subarray(from, to);
  }

  dispose(): void {
    this.length = 0;
    this.#words = new Uint16Array(0);
  }
}

/** What is written at once. */
const BUFFER_WORDS = 1 << 16;

type Disk = typeof import("../../tensor/disk.node.ts");

let opened = 0;

/**
 * In a file, 4 bytes per token, of which no more than a piece is in memory. The file loses its name as soon as it is
 * open, so that it goes with the process, however that ends. Node only.
 */
export class FileTokens implements TokenStore {
  #buffer = new Uint32Array(BUFFER_WORDS);
  #filled = 0;
  #written = 0;

  private constructor(
    private readonly folder: string,
    private readonly disk: Disk,
    private readonly file: number,
  ) {}

  /**
   * An empty store.
   * @param folder  on the disk that is to hold the tokens; made if need be
   * @throws DiskError where no file can be made there
   */
  static async open(folder: string): Promise<FileTokens> {
    const disk = await import("../../tensor/disk.node.ts");
    opened += 1;
    const path = `${folder}/tokens.${process.pid}.${opened}.tmp`;
    try {
      await disk.makeFolder(folder);
      const file = disk.openSync(path, "wx+");
      await disk.rm(path);
      return new FileTokens(folder, disk, file);
    } catch (error) {
      throw refused(folder, error as Error);
    }
  }

  get length(): number {
    return this.#written + this.#filled;
  }

  /** @throws DiskError where the disk is full */
  push(words: Uint32Array): void {
    for (let at = 0; at < words.length; ) {
      const n = Math.min(words.length - at, BUFFER_WORDS - this.#filled);
      this.#buffer.set(words.subarray(at, at + n), this.#filled);
      this.#filled += n;
      at += n;
      if (this.#filled === BUFFER_WORDS) this.#flush();
    }
  }

  read(from: number, to: number): Uint32Array {
    const words = new Uint32Array(to - from);
    const inFile = Math.min(to, this.#written) - from;
    if (inFile > 0) this.#readFile(words.subarray(0, inFile), from);
    const first = Math.max(0, from - this.#written);
    words.set(
      this.#buffer.subarray(first, Math.max(first, to - this.#written)),
      Math.max(0, inFile),
    );
    return words;
  }

  dispose(): void {
    this.disk.closeSync(this.file);
  }

  #readFile(words: Uint32Array, from: number): void {
    const bytes = bytesOf(words);
    for (let done = 0; done < bytes.length; ) {
      const left = bytes.length - done;
      const n = this.disk.readSync(this.file, bytes, done, left, 4 * from + done);
      if (n === 0) throw refused(this.folder, new Error("the file of tokens has become shorter"));
      done += n;
    }
  }

  #flush(): void {
    const bytes = bytesOf(this.#buffer.subarray(0, this.#filled));
    try {
      for (let done = 0; done < bytes.length; ) {
        const at = 4 * this.#written + done;
        done += this.disk.writeSync(this.file, bytes, done, bytes.length - done, at);
      }
    } catch (error) {
      throw refused(this.folder, error as Error);
    }
    this.#written += this.#filled;
    this.#filled = 0;
  }
}

const bytesOf = (words: Uint32Array) =>
  new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

function refused(folder: string, error: Error): DiskError {
  const expected = "a folder on a disk with room for 4 bytes per token";
  return new DiskError({ op: "data", arg: `spill, ${folder},`, expected, got: error.message });
}
