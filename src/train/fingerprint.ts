// Fingerprints: whether a checkpoint belongs to this model and this data.
import type { Module } from "../nn/module.ts";
import { Tensor } from "../tensor/tensor.ts";
import { ContentHash } from "./content_hash.ts";

const SAMPLE_BYTES = 4096;

/**
 * Of a model: its modules with their plain settings, such as a dropout's probability or an adapter's
 * scale; names, shapes and types of its parameters; and the first 4 KiB of each parameter that is not
 * trained, which tells one base from another without reading all of it.
 * @param trained  parameters whose values do not count
 */
export async function modelFingerprint(
  model: Module<never[]>,
  trained: ReadonlySet<Tensor>,
): Promise<string> {
  const hash = new ContentHash();
  for (const [path, module] of model.namedModules()) {
    const plain = Object.entries(module).filter(
      ([name, value]) => name !== "training" && /number|string|boolean/.test(typeof value),
    );
    hash.addText(JSON.stringify([path, module.constructor.name, plain]));
  }
  for (const [name, p] of model.namedParameters()) {
    hash.addText(JSON.stringify([name, p.shape, p.dtype, trained.has(p)]));
    if (!trained.has(p)) hash.addBytes(await sampleOf(p));
  }
  return hash.hex();
}

async function sampleOf(p: Tensor): Promise<Uint8Array> {
  const words = Math.floor(Math.min(p.bytes, SAMPLE_BYTES) / 4);
  using start = new Tensor(p.storage.slice(0, 4 * words), [words], "u32");
  return start.rawBytes();
}
