// A checkpoint: the safetensors files of a folder, as one table of tensors. One file, or shards and an index.
import { FormatError } from "../gpu/errors.ts";
import { readJson } from "./files.ts";
import type { Entry } from "./safetensors.ts";
import { SafetensorsFile } from "./safetensors_file.ts";
import type { Tensor } from "./tensor.ts";

const INDEX = "model.safetensors.index.json";
const WHOLE = "model.safetensors";

/** The open files of a folder. Close it. */
export class Checkpoint {
  private constructor(
    readonly folder: string,
    /** Which file holds a tensor, by the tensor's name; in the order of the files and of their bytes. */
    readonly files: ReadonlyMap<string, SafetensorsFile>,
    private readonly opened: readonly SafetensorsFile[],
  ) {}

  /**
   * Opens the files of a folder and reads their headers only.
   * @throws FormatError for a damaged file, an index that promises what no file holds, or the reverse
   */
  static async open(folder: string): Promise<Checkpoint> {
    const { existsSync } = await import("./disk.node.ts");
    const opened: SafetensorsFile[] = [];
    try {
      const isWhole = existsSync(`${folder}/${WHOLE}`) || !existsSync(`${folder}/${INDEX}`);
      if (isWhole) opened.push(await SafetensorsFile.open(`${folder}/${WHOLE}`));
      else {
        const shards = await readIndex(`${folder}/${INDEX}`);
        for (const shard of shards.keys()) {
          opened.push(await SafetensorsFile.open(`${folder}/${shard}`));
        }
        checkIndex(`${folder}/${INDEX}`, [...shards.values()], opened);
      }
      const files = new Map<string, SafetensorsFile>();
      for (const file of opened) for (const name of inOrder(file)) files.set(name, file);
      return new Checkpoint(folder, files, opened);
    } catch (error) {
      for (const file of opened) await file.close();
      throw error;
    }
  }

  /** Where a tensor lies, or undefined. */
  entry(name: string): Entry | undefined {
    return this.files.get(name)?.header.entries.get(name);
  }

  /** Whether two tensors have the same type, shape and bytes. */
  async same(one: string, other: string): Promise<boolean> {
    const [a, b] = [this.entry(one), this.entry(other)];
    if (!a || !b || a.dtype !== b.dtype || `${a.shape}` !== `${b.shape}`) return false;
    const left = this.files.get(one)!.pieces(a.begin, a.end);
    // A reader of its own: a file has one scratch buffer.
    const second = await SafetensorsFile.open(this.files.get(other)!.path);
    try {
      const right = second.pieces(b.begin, b.end);
      for await (const piece of left) {
        const next = await right.next();
        if (next.done || Buffer.compare(piece, next.value) !== 0) return false;
      }
      return true;
    } finally {
      await second.close();
    }
  }

  async close(): Promise<void> {
    for (const file of this.opened) await file.close();
  }
}

/** Names by where their bytes lie, so that a disk is read from front to back. */
function inOrder({ header }: SafetensorsFile): string[] {
  return [...header.entries].sort(([, a], [, b]) => a.begin - b.begin).map(([name]) => name);
}

function checkIndex(
  path: string,
  promised: readonly (readonly string[])[],
  files: readonly SafetensorsFile[],
): void {
  const problems: string[] = [];
  for (const [i, file] of files.entries()) {
    const names = new Set(promised[i]);
    for (const name of names) {
      if (!file.header.entries.has(name)) problems.push(`${file.path} holds no ${name}`);
    }
    for (const name of file.header.entries.keys()) {
      if (!names.has(name)) problems.push(`${file.path} holds ${name}, which the index lacks`);
    }
  }
  if (problems.length === 0) return;
  throw new FormatError(
    `safetensors: ${path} does not fit its files: ${problems.join("; ")}. Nothing was loaded.`,
  );
}

/** The names in each shard. Shards must lie in the index's own folder. */
async function readIndex(path: string): Promise<Map<string, string[]>> {
  const { weight_map: map } = await readJson(path);
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new FormatError(`safetensors: ${path} has no weight_map.`);
  }
  const shards = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !/^[\w][\w.-]*\.safetensors$/.test(shard)) {
      const expected = "the name of a .safetensors file beside the index";
      const got = JSON.stringify(shard);
      throw new FormatError({ op: "safetensors", arg: `${name} in ${path}`, expected, got });
    }
    shards.set(shard, [...(shards.get(shard) ?? []), name]);
  }
  return shards;
}

/** Loads all tensors of a folder: one file, or shards with an index. They outlive scopes. */
export async function loadModelTensors(folder: string): Promise<Map<string, Tensor>> {
  const checkpoint = await Checkpoint.open(folder);
  const loaded = new Map<string, Tensor>();
  try {
    for (const [name, file] of checkpoint.files) file.entry(name);
    for (const [name, file] of checkpoint.files) loaded.set(name, await file.load(name));
    return loaded;
  } catch (error) {
    for (const t of loaded.values()) t.dispose();
    throw error;
  } finally {
    await checkpoint.close();
  }
}
