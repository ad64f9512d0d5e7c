// The cache folder of the embedded SwiftShader, for tests.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { equal, is } from "uvu/assert";

export const LIBRARY = "libvk_swiftshader.so";
export const NAMES = [LIBRARY, "libvulkan.so.1", "vk_swiftshader_icd.json"];

/** Every file below a folder, hidden ones too. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

export const sha256 = (path: string): string =>
  createHash("sha256").update(readFileSync(path)).digest("hex");

/** Calls `body` with another cache folder in the environment. */
export function withCache<T>(folder: string, body: () => T): T {
  const before = process.env.LOWRANK_CACHE;
  process.env.LOWRANK_CACHE = folder;
  try {
    return body();
  } finally {
    if (before === undefined) delete process.env.LOWRANK_CACHE;
    else process.env.LOWRANK_CACHE = before;
  }
}

/** The one unpacked copy in a cache, which must be whole and alone. */
export function onlyCopy(cache: string): string {
  const folders = readdirSync(cache);
  is(folders.length, 1, folders.join(" "));
  const copy = join(cache, folders[0]!);
  equal(filesBelow(copy), [...NAMES, "manifest.json"].sort());
  const noted = JSON.parse(readFileSync(join(copy, "manifest.json"), "utf8"));
  for (const name of NAMES) is(sha256(join(copy, name)), noted[name], name);
  return copy;
}
