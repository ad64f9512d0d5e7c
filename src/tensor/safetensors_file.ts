// safetensors on disk, read in pieces of bounded size: host memory never holds a whole model. Node only.
import type { FileHandle } from "node:fs/promises";
import { gpu } from "../gpu/device.ts";
import { FormatError } from "../gpu/errors.ts";
import { fromBytes } from "./create.ts";
import { type DType, decode, encode } from "./dtype.ts";
import { writeFileWith } from "./files.ts";
import { type QuantizedType, quantizeValues } from "./quantized.ts";
import {
  type Entry,
  type FileType,
  type Header,
  headerLength,
  ownDType,
  parseHeader,
  writeHeader,
} from "./safetensors.ts";
import { type Shape, sizeOf } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** The most that is read at once. */
export const PIECE_BYTES = 8 * 2 ** 20;
/** How much may wait in the driver's staging memory before we wait for it. */
const IN_FLIGHT_BYTES = 64 * 2 ** 20;

/** An open file: its header, and its tensors' bytes in pieces. */
export class SafetensorsFile {
  private waiting = 0;
  private scratch: Uint8Array<ArrayBuffer> | null = null;

  private constructor(
    readonly path: string,
    readonly header: Header,
    private readonly file: FileHandle,
  ) {}

  /** Opens a file and checks its header. Throws FormatError where anything is wrong. */
  static async open(path: string): Promise<SafetensorsFile> {
    const fs = await import("./disk.node.ts");
    let file: FileHandle;
    try {
      file = await fs.open(path, "r");
    } catch (error) {
      throw new FormatError(`safetensors: ${path} cannot be read: ${(error as Error).message}.`);
    }
    try {
      const { size } = await file.stat();
      const length = headerLength(path, await bytesAt(file, path, 0, Math.min(8, size)), size);
      const header = parseHeader(path, await bytesAt(file, path, 8, length), size);
      return new SafetensorsFile(path, header, file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The entry of a tensor and the library's name of its type. */
  entry(name: string): Entry & { own: DType } {
    const entry = this.header.entries.get(name);
    if (entry) return { ...entry, own: ownDType(this.path, name, entry.dtype) };
    throw new FormatError(`safetensors: ${this.path} holds no ${name}, which its index promises.`);
  }

  /** The bytes of a range, piece after piece; each piece is good until the next is asked for. */
  async *pieces(begin: number, end: number): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    this.scratch ??= new Uint8Array(PIECE_BYTES);
    for (let at = begin; at < end; at += PIECE_BYTES) {
      const piece = this.scratch.subarray(0, Math.min(PIECE_BYTES, end - at));
      await fillFrom(this.file, this.path, at, piece);
      yield piece;
    }
  }

  /**
   * A tensor's bytes as they are stored, of whatever type.
   * @param target  gets them; it has their length
   */
  async bytes(name: string, target?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.header.entries.get(name)!;
    const bytes = target ?? new Uint8Array(end - begin);
    await fillFrom(this.file, this.path, begin, bytes);
    return bytes;
  }

  /** Reads a tensor as it is stored. It outlives scopes. */
  async load(name: string): Promise<Tensor> {
    const { begin, end, shape, own } = this.entry(name);
    if (end - begin <= Math.min(PIECE_BYTES, gpu("loadSafetensors").bindingLimit)) {
      const bytes = await bytesAt(this.file, this.path, begin, end - begin);
      return fromBytes(bytes, shape, own, "loadSafetensors").persist();
    }
    const t = Tensor.emptyTable("loadSafetensors", shape, own).persist();
    try {
      await this.fill(t, name);
    } catch (error) {
      t.dispose();
      throw error;
    }
    return t;
  }

  /**
   * Reads a tensor's elements into one that is there, converting them where the types differ.
   * @param t  of the size of the stored tensor
   */
  async fill(t: Tensor, name: string): Promise<void> {
    const { begin, end, own } = this.entry(name);
    const { gpu, block, byteOffset } = t.storage;
    let at = byteOffset;
    for await (const piece of this.pieces(begin, end)) {
      const bytes = own === t.dtype ? piece : encode(decode(piece, own), t.dtype);
      gpu.stream.write(block, at, wholeWords(bytes));
      at += bytes.length;
      await this.wrote(bytes.length, gpu);
    }
  }

  /**
   * Reads a matrix whole and rounds it to the levels of a quantised one that is there.
   * @param t  of int8 or nf4, of the stored matrix' shape, or of its turned shape where `turned`
   * @throws ValueError for what is not finite
   */
  async quantizeInto(t: Tensor, name: string, turned: boolean): Promise<void> {
    const values = await this.values(name);
    const [rows, columns] = t.shape as [number, number];
    const own = turned ? transposed(values, columns, rows) : values;
    const bytes = quantizeValues(own, t.shape, t.dtype as QuantizedType, `load ${name}`);
    await this.upload(t, bytes);
  }

  /** Writes a tensor's bytes, which the host holds whole. */
  async upload(t: Tensor, bytes: Uint8Array): Promise<void> {
    t.upload(bytes);
    await this.wrote(bytes.length, t.storage.gpu);
  }

  /** A tensor's numbers, all of them. */
  async values(name: string): Promise<Float32Array> {
    const { begin, end, shape, own } = this.entry(name);
    const values = new Float32Array(sizeOf(shape));
    let at = 0;
    for await (const piece of this.pieces(begin, end)) {
      const numbers = decode(piece, own);
      values.set(numbers, at);
      at += numbers.length;
    }
    return values;
  }

  /** Waits now and then, so that the driver's staging memory stays small. */
  private async wrote(bytes: number, gpu: Tensor["storage"]["gpu"]): Promise<void> {
    this.waiting += bytes;
    if (this.waiting < IN_FLIGHT_BYTES) return;
    await gpu.sync();
    this.waiting = 0;
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** The values of [rows, columns] as those of [columns, rows]. */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) turned[j * rows + i] = values[i * columns + j]!;
  }
  return turned;
}

/** Bytes padded with zeros to a multiple of 4, as the GPU wants them. */
function wholeWords(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.length % 4 === 0) return bytes as Uint8Array<ArrayBuffer>;
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}

async function bytesAt(
  file: FileHandle,
  path: string,
  position: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await fillFrom(file, path, position, bytes);
  return bytes;
}

async function fillFrom(
  file: FileHandle,
  path: string,
  position: number,
  target: Uint8Array,
): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) {
      throw new FormatError(`safetensors: ${path} ended after ${position + done} bytes.`);
    }
    done += bytesRead;
  }
}

/**
 * Loads the tensors of a file, or of those names. They outlive scopes. If anything is wrong, none is
 * loaded.
 * @throws FormatError naming the file and the tensor
 */
export async function loadSafetensors(
  path: string,
  names?: readonly string[],
): Promise<Map<string, Tensor>> {
  const file = await SafetensorsFile.open(path);
  const loaded = new Map<string, Tensor>();
  try {
    const wanted = names ?? [...file.header.entries.keys()];
    for (const name of wanted) file.entry(name);
    for (const name of wanted) loaded.set(name, await file.load(name));
    return loaded;
  } catch (error) {
    for (const t of loaded.values()) t.dispose();
    throw error;
  } finally {
    await file.close();
  }
}

/** What a file's header says of its tensors, by name. */
export async function readEntries(path: string): Promise<ReadonlyMap<string, Entry>> {
  const file = await SafetensorsFile.open(path);
  await file.close();
  return file.header.entries;
}

/** The strings that stand beside the tensors of a file. */
export async function readMetadata(path: string): Promise<Record<string, string>> {
  const file = await SafetensorsFile.open(path);
  await file.close();
  return file.header.metadata;
}

/** A tensor that is to be written: its bytes are asked for when their turn has come. */
export interface Part {
  dtype: FileType;
  shape: Shape;
  bytes: () => Promise<Uint8Array>;
}

/**
 * Writes tensors to a file one after the other, each made when its turn has come. The file appears
 * whole or not at all.
 * @param metadata  strings that stand beside them
 * @param onPart  called after each with its name and how many bytes of all are written
 */
export async function writeSafetensors(
  path: string,
  parts: ReadonlyMap<string, Part>,
  metadata: Record<string, string> = {},
  onPart?: (name: string, bytesDone: number, bytesTotal: number) => void,
): Promise<void> {
  const { header, order, bytes } = writeHeader(parts, metadata);
  const produce = async (write: (part: Uint8Array) => Promise<void>) => {
    await write(header);
    let done = header.length;
    for (const name of order) {
      const part = await parts.get(name)!.bytes();
      await write(part);
      done += part.length;
      onPart?.(name, done, bytes);
    }
  };
  await writeFileWith(path, produce, bytes);
}

/**
 * Writes tensors to a file, one after the other. The file appears whole or not at all.
 * @param metadata  strings that stand beside them
 */
export async function saveSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const parts = Object.entries(tensors).map(
    ([name, t]) => [name, { dtype: t.dtype, shape: t.shape, bytes: () => t.rawBytes() }] as const,
  );
  await writeSafetensors(path, new Map(parts), metadata);
}
