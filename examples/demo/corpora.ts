// The two domains of the demo: TypeScript declarations with their English documentation, which come
// with `npm ci`, and this repository's WGSL. Each comes in three parts that share no passage: to train on,
// to tune and watch the training, and to report.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ValueError } from "../../src/gpu/errors.ts";
import { readText } from "../../src/train/text/bytes.ts";
import { characterStart, lineEnd, PASSAGE, withoutPassages } from "./passages.ts";

const root = join(import.meta.dirname, "../..");
/** Fewest bytes of a user's text, and of its part to train on. */
const LEAST = { text: 4096, train: 2048 };

export interface Corpus {
  name: string;
  train: Uint8Array;
  /** For learning rates and the base's loss curve. Empty for a user's own text, with which nothing is tuned. */
  tune: Uint8Array;
  /** For the figures that are reported. */
  test: Uint8Array;
}

type Parts = Omit<Corpus, "name">;

async function filesUnder(folder: string, extension: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true });
  return entries
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => name.endsWith(extension))
    .sort()
    .map((name) => join(folder, name));
}

/** Indentation by four says nothing about the language; it becomes two. */
function clean(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(/^ +/gm, (s) => " ".repeat(Math.ceil(s.length / 2)));
}

/** The end of a text to report on, what is before it to tune with, the rest to train on, cut at ends of lines. */
function split(text: Uint8Array, share: { tune: number; test: number }): Parts {
  const cut = (rest: number) => lineEnd(text, Math.floor(text.length * (1 - rest)));
  const end = cut(share.test);
  const start = share.tune > 0 ? cut(share.tune + share.test) : end;
  return {
    train: text.subarray(0, start),
    tune: text.subarray(start, end),
    test: text.subarray(end),
  };
}

/** Takes out of each part the passages that a part which is reported on has too. */
function apart({ train, tune, test }: Parts): Parts {
  const tuneAlone = withoutPassages(tune, [test]);
  return { train: withoutPassages(train, [tuneAlone, test]), tune: tuneAlone, test };
}

async function ofFiles(
  name: string,
  files: readonly string[],
  share: { tune: number; test: number },
): Promise<Corpus> {
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
  const parts = texts.map((text) => split(Buffer.from(clean(text)), share));
  const all = (part: keyof Parts) => Buffer.concat(parts.map((p) => p[part]));
  return { name, ...apart({ train: all("train"), tune: all("tune"), test: all("test") }) };
}

/** What the base was trained on: `@types/node`, without its copies for older compilers, and `@webgpu/types`. */
export async function baseCorpus(): Promise<Corpus> {
  const types = join(root, "node_modules");
  const node = await filesUnder(join(types, "@types/node"), ".d.ts");
  const webgpu = await filesUnder(join(types, "@webgpu/types"), ".d.ts");
  const files = [...node.filter((file) => !/[\\/]ts\d/.test(file)), ...webgpu];
  return ofFiles("TypeScript declarations", files, { tune: 0.05, test: 0.05 });
}

/**
 * What the base is adapted to: the kernels of this repository, or the user's own file.
 * @throws FormatError for a missing, empty, tiny or binary file, ValueError for one that says all twice
 */
export async function targetCorpus(file?: string): Promise<Corpus> {
  if (file === undefined) {
    const kernels = await filesUnder(join(root, "src/kernels/wgsl"), ".wgsl");
    return ofFiles("WGSL kernels", kernels, { tune: 0.1, test: 0.1 });
  }
  const parts = apart(split(await readText(file, LEAST.text), { tune: 0, test: 0.1 }));
  if (parts.train.length >= LEAST.train) return { name: file, ...parts };
  throw new ValueError({
    op: "demo",
    arg: "--text",
    expected: `at least ${LEAST.train} bytes that its last tenth does not repeat`,
    got: `${parts.train.length}`,
    hint: `The last tenth is held out, and lines that share ${PASSAGE} bytes with it are not trained on.`,
  });
}

/** The beginning of a text, for a model to go on with. */
export function promptOf(text: Uint8Array): Uint8Array {
  return text.subarray(0, characterStart(text, 48));
}

/** SHA-256 of a part of a corpus, which says what a recorded result was made with. */
export function fingerprint(text: Uint8Array): string {
  return createHash("sha256").update(text).digest("hex");
}
