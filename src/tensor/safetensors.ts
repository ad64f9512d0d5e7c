// The safetensors format: a header in JSON, then the bytes of every tensor. Headers are hostile input.
//   u64 length of the header · {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …} · bytes
import { FormatError } from "../gpu/errors.ts";
import { bytesPerElement, type DType } from "./dtype.ts";
import { duplicateKey, parseJson } from "./json.ts";
import { type Shape, sizeOf } from "./shape.ts";

/** Where a tensor's bytes lie, counted from the start of the file. */
export interface Entry {
  dtype: string;
  shape: number[];
  begin: number;
  end: number;
}

export interface Header {
  entries: Map<string, Entry>;
  metadata: Record<string, string>;
  /** Bytes before the first tensor. */
  dataStart: number;
}

/** Types of bytes that no tensor here has, but parts of quantised ones in files. */
export type FileType = DType | "u8" | "i8";

const widthOf = (dtype: FileType) =>
  dtype === "u8" || dtype === "i8" ? 1 : bytesPerElement(dtype);

/** Bytes per element of the types that the format knows. */
const ELEMENT_BYTES: Record<string, number> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
};

const OWN: Record<string, DType> = { F32: "f32", F16: "f16", BF16: "bf16", I32: "i32", U32: "u32" };
const MAX_HEADER_BYTES = 100_000_000;

/** The library's name of a file's type; FormatError where it has none. */
export function ownDType(file: string, name: string, dtype: string): DType {
  const own = OWN[dtype];
  if (own) return own;
  const expected = `of type ${Object.keys(OWN).join(", ")}`;
  throw new FormatError({ op: "safetensors", arg: `${name} in ${file}`, expected, got: dtype });
}

function refuse(file: string, what: string): never {
  throw new FormatError(`safetensors: ${file} is damaged: ${what}. Nothing was loaded.`);
}

/** Length of the header from the first eight bytes. */
export function headerLength(file: string, start: Uint8Array, fileLength: number): number {
  if (start.length < 8) refuse(file, `it has ${start.length} bytes, fewer than a header's length`);
  const view = new DataView(start.buffer, start.byteOffset, 8);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) refuse(file, `a header of ${length} bytes`);
  if (8 + Number(length) > fileLength) {
    refuse(file, `a header of ${length} bytes in a file of ${fileLength}`);
  }
  return Number(length);
}

/**
 * Reads and checks a header: names, types, shapes, and that the tensors fill the file without gaps.
 * @param file  name for messages
 * @param json  the header's bytes
 * @param fileLength  bytes of the whole file
 */
export function parseHeader(file: string, json: Uint8Array, fileLength: number): Header {
  const dataStart = 8 + json.length;
  const table = parseObject(file, json);
  const metadata = checkMetadata(file, table.__metadata__);
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(table)) {
    if (name === "__metadata__") continue;
    entries.set(name, checkEntry(file, name, value, dataStart));
  }
  const inOrder = [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = dataStart;
  for (const [name, { begin, end }] of inOrder) {
    if (begin < at) refuse(file, `${name} overlaps the tensor before it`);
    if (begin > at) refuse(file, `${begin - at} bytes before ${name} belong to no tensor`);
    if (end > fileLength) refuse(file, `${name} ends ${end - fileLength} bytes behind the file`);
    at = end;
  }
  if (at !== fileLength) refuse(file, `${fileLength - at} bytes at its end belong to no tensor`);
  return { entries, metadata, dataStart };
}

function parseObject(file: string, json: Uint8Array): Record<string, unknown> {
  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(json);
  } catch {
    refuse(file, "its header is not UTF-8");
  }
  let table: unknown;
  try {
    table = parseJson(text);
  } catch (error) {
    refuse(file, `its header is not JSON (${(error as Error).message})`);
  }
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    refuse(file, "its header is not a JSON object");
  }
  const twice = duplicateKey(text);
  if (twice !== null) refuse(file, `its header holds ${JSON.stringify(twice)} twice`);
  return table as Record<string, unknown>;
}

function checkMetadata(file: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject || !Object.values(value).every((v) => typeof v === "string")) {
    refuse(file, "__metadata__ must hold strings");
  }
  return value as Record<string, string>;
}

function checkEntry(file: string, name: string, value: unknown, dataStart: number): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  const width = typeof dtype === "string" ? ELEMENT_BYTES[dtype] : undefined;
  if (width === undefined || !Object.hasOwn(ELEMENT_BYTES, dtype as string)) {
    refuse(file, `${name} has the unknown type ${JSON.stringify(dtype)}`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    refuse(file, `${name} has the shape ${JSON.stringify(shape)}`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    refuse(file, `${name} has the offsets ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = sizeOf(shape) * width;
  if (!Number.isSafeInteger(bytes)) refuse(file, `${name} has more elements than can be counted`);
  if (end - begin !== bytes) {
    refuse(file, `${name} should take ${bytes} bytes, its offsets say ${end - begin}`);
  }
  return { dtype: dtype as string, shape, begin: dataStart + begin, end: dataStart + end };
}

/** What a tensor is in a file: its type, shape and bytes. */
export interface RawTensor {
  dtype: DType;
  shape: Shape;
  bytes: Uint8Array;
}

/** Reads a whole file from memory. Throws FormatError where anything is wrong. */
export function readSafetensors(
  file: string,
  bytes: Uint8Array,
): { tensors: Map<string, RawTensor>; metadata: Record<string, string> } {
  const length = headerLength(file, bytes.subarray(0, 8), bytes.length);
  const { entries, metadata } = parseHeader(file, bytes.subarray(8, 8 + length), bytes.length);
  const tensors = new Map<string, RawTensor>();
  for (const [name, { dtype, shape, begin, end }] of entries) {
    const own = ownDType(file, name, dtype);
    tensors.set(name, { dtype: own, shape, bytes: bytes.subarray(begin, end) });
  }
  return { tensors, metadata };
}

/** The header of a file with these tensors, in the order in which their bytes must follow. */
export function writeHeader(
  tensors: ReadonlyMap<string, { dtype: FileType; shape: Shape }>,
  metadata: Record<string, string> = {},
): { header: Uint8Array; order: string[]; bytes: number } {
  // Wide types first, so that every tensor is aligned to its type; then by name, as the format's own
  // library orders them.
  const order = [...tensors.keys()].sort((a, b) => {
    const widths = widthOf(tensors.get(b)!.dtype) - widthOf(tensors.get(a)!.dtype);
    return widths || (a < b ? -1 : 1);
  });
  const parts: string[] = [];
  if (Object.keys(metadata).length > 0) parts.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let at = 0;
  for (const name of order) {
    const { dtype, shape } = tensors.get(name)!;
    const end = at + sizeOf(shape) * widthOf(dtype);
    const entry = { dtype: dtype.toUpperCase(), shape, data_offsets: [at, end] };
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    at = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return { header, order, bytes: header.length + at };
}
