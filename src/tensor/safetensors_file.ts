// safetensors on disk, tensor by tensor: host memory never holds a whole model. Node only.
import type { FileHandle } from "node:fs/promises";
import { FormatError } from "../gpu/errors.ts";
import { fromBytes } from "./create.ts";
import { readJson, writeFileWith } from "./files.ts";
import { type Header, headerLength, ownDType, parseHeader, writeHeader } from "./safetensors.ts";
import type { Tensor } from "./tensor.ts";

const INDEX = "model.safetensors.index.json";
const WHOLE = "model.safetensors";

async function open(path: string): Promise<{ file: FileHandle; header: Header }> {
  const fs = await import("./disk.node.ts");
  let file: FileHandle;
  try {
    file = await fs.open(path, "r");
  } catch (error) {
    throw new FormatError(`safetensors: ${path} cannot be read: ${(error as Error).message}.`);
  }
  try {
    const { size } = await file.stat();
    const length = headerLength(path, await readAt(file, 0, Math.min(8, size)), size);
    const header = parseHeader(path, await readAt(file, 8, length), size);
    return { file, header };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const { bytesRead } = await file.read(bytes, 0, length, position);
  if (bytesRead === length) return bytes;
  throw new FormatError(`safetensors: the file ended after ${position + bytesRead} bytes.`);
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
  const { file, header } = await open(path);
  const loaded = new Map<string, Tensor>();
  try {
    const wanted = names ?? [...header.entries.keys()];
    const dtypes = wanted.map((name) => {
      const entry = header.entries.get(name);
      if (entry) return ownDType(path, name, entry.dtype);
      throw new FormatError(`safetensors: ${path} holds no ${name}, which its index promises.`);
    });
    for (const [i, name] of wanted.entries()) {
      const { begin, end, shape } = header.entries.get(name)!;
      const bytes = await readAt(file, begin, end - begin);
      loaded.set(name, fromBytes(bytes, shape, dtypes[i]!, "loadSafetensors").persist());
    }
    return loaded;
  } catch (error) {
    for (const t of loaded.values()) t.dispose();
    throw error;
  } finally {
    await file.close();
  }
}

/** The strings that stand beside the tensors of a file. */
export async function readMetadata(path: string): Promise<Record<string, string>> {
  const { file, header } = await open(path);
  await file.close();
  return header.metadata;
}

/** Loads a model's tensors from a folder: one file, or shards with an index. */
export async function loadModelTensors(folder: string): Promise<Map<string, Tensor>> {
  const { existsSync } = await import("./disk.node.ts");
  if (!existsSync(`${folder}/${INDEX}`)) return loadSafetensors(`${folder}/${WHOLE}`);
  const loaded = new Map<string, Tensor>();
  try {
    for (const [shard, names] of await readIndex(`${folder}/${INDEX}`)) {
      for (const [name, t] of await loadSafetensors(`${folder}/${shard}`, names)) {
        loaded.set(name, t);
      }
    }
    return loaded;
  } catch (error) {
    for (const t of loaded.values()) t.dispose();
    throw error;
  }
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

/**
 * Writes tensors to a file, one after the other. The file appears whole or not at all.
 * @param metadata  strings that stand beside them
 */
export async function saveSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const { header, order } = writeHeader(new Map(Object.entries(tensors)), metadata);
  await writeFileWith(path, async (write) => {
    await write(header);
    for (const name of order) await write(await tensors[name]!.rawBytes());
  });
}
