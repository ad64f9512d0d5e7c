// Quantised matrices in safetensors files, by the names and in the types of bitsandbytes 0.43 and later,
// so that a folder which Transformers wrote loads here, and one written here loads there.
//   int8  X.weight  I8 [out, in]     X.SCB  F32 [out]     X.weight_format  U8 []: 0, row by row
//   nf4   X.weight  U8 [bytes, 1]    X.weight.absmax  U8 [blocks]    X.weight.nested_absmax  F32 [groups]
//         X.weight.quant_map  F32 [16]    X.weight.nested_quant_map  F32 [256]
//         X.weight.quant_state.bitsandbytes__nf4  U8: JSON with the shape, both sizes of blocks, and the mean
import { FormatError } from "../gpu/errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { parseJson } from "./json.ts";
import { DYNAMIC_MAP, NF4_LEVELS } from "./nf4.ts";
import {
  BLOCK,
  NESTED_BLOCK,
  type QuantizedParts,
  type QuantizedType,
  quantizedBytes,
  quantizedParts,
} from "./quantized.ts";
import type { Part } from "./safetensors_file.ts";
import { format, type Shape, sameShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

const STATE = ".quant_state.bitsandbytes__nf4";
/** Bytes of the JSON as it is written here: blanks at its end make it as long, whatever the mean. */
const STATE_BYTES = 256;
const MAX_STATE_BYTES = 65_536;

/** A quantised matrix in a checkpoint. */
export interface PackedMatrix {
  /** Of its weight. */
  name: string;
  type: QuantizedType;
  /** [out, in] */
  shape: [rows: number, columns: number];
  /** nf4: what was taken from the blocks' largest magnitudes before these were rounded. */
  mean: number;
  /** Names of all its tensors, that of its weight first. */
  parts: readonly string[];
}

/** Names of a matrix' parts beside its weight. */
function partNames(name: string, type: QuantizedType) {
  const layer = name.replace(/\.weight$/, "");
  if (type === "int8") return { scales: `${layer}.SCB`, format: `${layer}.weight_format` };
  return {
    absmax: `${name}.absmax`,
    nested: `${name}.nested_absmax`,
    levels: `${name}.quant_map`,
    map: `${name}.nested_quant_map`,
    state: name + STATE,
  };
}

/**
 * The quantised matrices of a checkpoint, by the names of their weights.
 * @throws FormatError listing parts that are missing, or not what they must be, and other kinds than NF4 with
 *   double quantisation in blocks of 64 and 256, and int8
 */
export async function packedMatrices(checkpoint: Checkpoint): Promise<Map<string, PackedMatrix>> {
  const found = new Map<string, PackedMatrix>();
  const problems: string[] = [];
  for (const name of checkpoint.files.keys()) {
    if (!name.endsWith(".weight")) continue;
    const check = new Parts(checkpoint, name);
    const matrix = await check.matrix();
    problems.push(...check.problems);
    if (matrix) found.set(name, matrix);
  }
  if (problems.length === 0) return found;
  throw new FormatError(
    `load: the quantised weights of ${checkpoint.folder} cannot be read: ${problems.join("; ")}. Nothing was loaded.`,
  );
}

/** The parts of one matrix, checked. */
class Parts {
  readonly problems: string[] = [];

  constructor(
    private readonly checkpoint: Checkpoint,
    private readonly name: string,
  ) {}

  async matrix(): Promise<PackedMatrix | null> {
    const { checkpoint, name } = this;
    const type = checkpoint.entry(name)!.dtype;
    const has = (part: string) => checkpoint.files.has(part);
    if (type === "I8" && has(partNames(name, "int8").scales!)) return this.int8();
    if (type !== "U8") return null;
    if (has(name + STATE)) return this.nf4();
    if (has(`${name}.absmax`)) this.problems.push(`${name} is not of NF4`);
    return null;
  }

  private int8(): PackedMatrix | null {
    const { name, checkpoint } = this;
    const { shape } = checkpoint.entry(name)!;
    const { scales, format: layout } = partNames(name, "int8");
    if (shape.length !== 2) this.problems.push(`${name} is ${format(shape)}, expected a matrix`);
    this.expect(scales!, "F32", [shape[0]!]);
    const hasLayout = checkpoint.files.has(layout!);
    if (hasLayout) this.expect(layout!, "U8", []);
    const parts = [name, scales!, ...(hasLayout ? [layout!] : [])];
    return this.result({ name, type: "int8", shape: shape as [number, number], mean: 0, parts });
  }

  private async nf4(): Promise<PackedMatrix | null> {
    const { name } = this;
    const { absmax, nested, levels, map, state } = partNames(name, "nf4");
    const json = await this.state(state!);
    if (!json) return null;
    const { shape, nested_offset: mean } = json as {
      shape: [number, number];
      nested_offset: number;
    };
    const n = shape[0] * shape[1];
    const blocks = Math.ceil(n / BLOCK);
    const bytes = Math.ceil(n / 2);
    const own = this.checkpoint.entry(name)!.shape;
    if (own.reduce((a, b) => a * b, 1) !== bytes) {
      this.problems.push(`${name} is ${format(own)}, expected ${bytes} bytes for ${format(shape)}`);
    }
    this.expect(absmax!, "U8", [blocks]);
    this.expect(nested!, "F32", [Math.ceil(blocks / NESTED_BLOCK)]);
    this.expect(levels!, "F32", [NF4_LEVELS.length]);
    this.expect(map!, "F32", [DYNAMIC_MAP.length]);
    if (this.problems.length > 0) return null;
    const table = await this.bytes(levels!);
    const values = new Float32Array(table.buffer);
    if (values.some((v, i) => !(Math.abs(v - NF4_LEVELS[i]!) < 1e-6)))
      this.problems.push(`${levels} is not that of NF4`);
    const parts = [name, absmax!, nested!, levels!, map!, state!];
    return this.result({ name, type: "nf4", shape, mean, parts });
  }

  private result(matrix: PackedMatrix): PackedMatrix | null {
    return this.problems.length > 0 ? null : matrix;
  }

  private expect(name: string, dtype: string, shape: Shape): void {
    const entry = this.checkpoint.entry(name);
    const wanted = `${dtype} ${format(shape)}`;
    if (!entry) this.problems.push(`missing ${name}, expected ${wanted}`);
    else if (entry.dtype !== dtype || !sameShape(entry.shape, shape)) {
      this.problems.push(`${name} is ${entry.dtype} ${format(entry.shape)}, expected ${wanted}`);
    }
  }

  private bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return this.checkpoint.files.get(name)!.bytes(name);
  }

  /** The JSON of a state, or null where a field is not what is read here. */
  private async state(name: string): Promise<Record<string, unknown> | null> {
    const { begin, end } = this.checkpoint.entry(name)!;
    const json = end - begin > MAX_STATE_BYTES ? null : objectIn(await this.bytes(name));
    if (!json) {
      this.problems.push(`${name} is not a JSON object`);
      return null;
    }
    const { shape } = json;
    const isSize = (n: unknown) => Number.isSafeInteger(n) && (n as number) > 0;
    const isMatrix = Array.isArray(shape) && shape.length === 2 && shape.every(isSize);
    const wanted: readonly [field: string, good: boolean, expected: string][] = [
      ["shape", isMatrix && isSize(shape[0] * shape[1]), "[rows, columns]"],
      ["quant_type", json.quant_type === "nf4", '"nf4"'],
      ["blocksize", json.blocksize === BLOCK, `${BLOCK}`],
      ["nested_blocksize", json.nested_blocksize === NESTED_BLOCK, `${NESTED_BLOCK}, double quantisation`], // biome-ignore format: one line
      ["nested_offset", Number.isFinite(json.nested_offset), "a number"],
    ];
    const odd = wanted.filter(([, good]) => !good);
    for (const [field, , expected] of odd) {
      const got = json[field] === undefined ? "nothing" : JSON.stringify(json[field]);
      this.problems.push(`${field} of ${name} must be ${expected}, got ${got}`);
    }
    return odd.length > 0 ? null : json;
  }
}

function objectIn(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const value = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    const isObject = typeof value === "object" && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown> | null) : null;
  } catch {
    return null;
  }
}

/** Reads a matrix as the bytes of its type; host memory holds this one. */
export async function readPacked(
  checkpoint: Checkpoint,
  { name, type, shape, mean }: PackedMatrix,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(quantizedBytes(type, shape));
  const own = quantizedParts(type, shape, bytes);
  const read = (part: string, into: ArrayBufferView<ArrayBuffer>) =>
    checkpoint.files.get(part)!.bytes(part, new Uint8Array(into.buffer, into.byteOffset, into.byteLength)); // biome-ignore format: one line
  await read(name, own.codes);
  if (type === "int8") {
    await read(partNames(name, type).scales!, own.absmax);
    return bytes;
  }
  const { absmax, nested, map } = partNames(name, type);
  await read(absmax!, own.blocks);
  await read(nested!, own.nested);
  await read(map!, own.map);
  own.mean[0] = mean;
  return bytes;
}

/**
 * What a quantised matrix is in a file; its bytes are read when their turn has come.
 * @param name  of its weight
 * @param madeOf  what its values were before, as PyTorch names it
 */
export function packedParts(name: string, t: Tensor, madeOf: string): Map<string, Part> {
  const [rows, columns] = t.shape as [number, number];
  const type = t.dtype as QuantizedType;
  const of = (use: (parts: QuantizedParts) => ArrayBufferView<ArrayBuffer>) => async () => {
    const { buffer, byteOffset, byteLength } = use(
      quantizedParts(type, t.shape, await t.rawBytes()),
    );
    return new Uint8Array(buffer, byteOffset, byteLength);
  };
  const parts = new Map<string, Part>();
  const put = (part: string, dtype: Part["dtype"], shape: Shape, bytes: Part["bytes"]) =>
    parts.set(part, { dtype, shape, bytes });
  if (type === "int8") {
    const { scales, format: layout } = partNames(name, type);
    put(
      name,
      "i8",
      [rows, columns],
      of(({ codes }) => codes),
    );
    put(
      scales!,
      "f32",
      [rows],
      of(({ absmax }) => absmax),
    );
    put(layout!, "u8", [], async () => new Uint8Array(1));
    return parts;
  }
  const n = rows * columns;
  const blocks = Math.ceil(n / BLOCK);
  const { absmax, nested, levels, map, state } = partNames(name, type);
  put(
    name,
    "u8",
    [Math.ceil(n / 2), 1],
    of(({ codes }) => codes),
  );
  put(
    absmax!,
    "u8",
    [blocks],
    of((parts) => parts.blocks),
  );
  put(
    nested!,
    "f32",
    [Math.ceil(blocks / NESTED_BLOCK)],
    of((parts) => parts.nested),
  );
  put(levels!, "f32", [NF4_LEVELS.length], async () => new Uint8Array(Float32Array.from(NF4_LEVELS).buffer)); // biome-ignore format: one line
  put(
    map!,
    "f32",
    [DYNAMIC_MAP.length],
    of((parts) => parts.map),
  );
  put(
    state!,
    "u8",
    [STATE_BYTES],
    of(({ mean }) => stateOf([rows, columns], mean[0]!, madeOf)),
  );
  return parts;
}

function stateOf(shape: Shape, mean: number, dtype: string): Uint8Array<ArrayBuffer> {
  const json = JSON.stringify({
    quant_type: "nf4",
    blocksize: BLOCK,
    dtype,
    shape,
    nested_blocksize: NESTED_BLOCK,
    nested_dtype: "float32",
    nested_offset: mean,
  });
  return new TextEncoder().encode(json.padEnd(STATE_BYTES));
}
