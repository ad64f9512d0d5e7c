// The two domains of the demo: TypeScript declarations with their English documentation, which come
// with `npm ci`, and this repository's WGSL. Of each, a tail of every file is held out.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readText } from "../../src/train/text/bytes.ts";
import { splitTail } from "../../src/train/windows.ts";

const root = join(import.meta.dirname, "../..");
const HELD_OUT = 0.1;

export interface Corpus {
  name: string;
  train: Uint8Array;
  valid: Uint8Array;
}

async function filesUnder(folder: string, extension: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true });
  return entries
    .filter((name) => name.endsWith(extension))
    .sort()
    .map((name) => join(folder, name));
}

/** Licence headers and indentation by four say nothing about the language; they are dropped. */
function clean(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(/^ +/gm, (s) => " ".repeat(Math.ceil(s.length / 2)));
}

async function corpus(name: string, files: readonly string[]): Promise<Corpus> {
  const parts = await Promise.all(
    files.map(async (file) =>
      splitTail(Buffer.from(clean(await readFile(file, "utf8"))), HELD_OUT),
    ),
  );
  return {
    name,
    train: Buffer.concat(parts.map(([train]) => train)),
    valid: Buffer.concat(parts.map(([, valid]) => valid)),
  };
}

/** What the base was trained on: `@types/node` and `@webgpu/types`. */
export async function baseCorpus(): Promise<Corpus> {
  const types = join(root, "node_modules");
  const node = await filesUnder(join(types, "@types/node"), ".d.ts");
  const webgpu = await filesUnder(join(types, "@webgpu/types"), ".d.ts");
  return corpus("TypeScript declarations", [...node, ...webgpu]);
}

/** What the base is adapted to: the kernels of this repository, or the user's own file. */
export async function targetCorpus(file?: string): Promise<Corpus> {
  if (!file) {
    const kernels = join(root, "src/kernels/wgsl");
    return corpus("WGSL kernels", await filesUnder(kernels, ".wgsl"));
  }
  const [train, valid] = splitTail(await readText(file, 4096), HELD_OUT);
  return { name: file, train, valid };
}
