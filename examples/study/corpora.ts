// The study's texts, as files that the command reads: addresses of American presidents (what the base knows), Moby Dick
// (other prose), TypeScript (no prose), and a taught skill. Parts never share a file of the original.
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { LowrankError } from "../../src/gpu/errors.ts";
import { writeFileSafely } from "../../src/tensor/files.ts";
import { permuted } from "../../src/train/data/order.ts";

/** Where each part of each text lies. */
export interface Paths {
  /** The base's own text: to train it and for replay, and what forgetting is measured on. */
  speeches: { train: string; test: string };
  /** Near: prose of another kind. `small` is its beginning, of SMALL characters, on which a model can overfit. */
  novel: { train: string; small: string; tune: string; test: string };
  /** Far: code. */
  code: { train: string; tune: string; test: string };
  /** Questions and answers; the words of `test` are not in `train`. */
  skill: { train: string; tune: string; test: string };
}

const SMALL = 10_000;

const here = import.meta.dirname;
const root = join(here, "../..");
const stdlib = join(here, "node_modules/@stdlib");

/**
 * Writes the texts.
 * @param folder  gets them; made if need be
 */
export async function writeCorpora(folder: string): Promise<Paths> {
  if (!existsSync(stdlib)) {
    throw new LowrankError(`study: its texts are not there. Run: npm ci --prefix ${here}`);
  }
  await mkdir(folder, { recursive: true });
  const write = async (name: string, text: string) => {
    const path = join(folder, name);
    await writeFileSafely(path, text);
    return path;
  };
  const [speeches, chapters, code] = await Promise.all([
    textsOf(join(stdlib, "datasets-sotu/data"), /^\d.*\.txt$/),
    textsOf(join(stdlib, "datasets-moby-dick/data"), /^chapter_\d+\.txt$/),
    textsOf(join(root, "node_modules/@types/node"), /^[^/\\]+\.d\.ts$/),
  ]);
  const novel = dealt(chapters, 10);
  const types = dealt(code, 10);
  const skill = skillParts([...speeches, ...chapters]);
  const address = (isTest: boolean) =>
    speeches.filter((_, i) => (i % 20 === 10) === isTest).join("");
  return {
    speeches: {
      train: await write("speeches-train.txt", address(false)),
      test: await write("speeches-test.txt", address(true)),
    },
    novel: {
      train: await write("novel-train.txt", novel.train.join("")),
      small: await write("novel-small.txt", novel.train.join("").slice(0, SMALL)),
      tune: await write("novel-tune.txt", novel.tune.join("")),
      test: await write("novel-test.txt", novel.test.join("")),
    },
    code: {
      train: await write("code-train.txt", types.train.join("")),
      tune: await write("code-tune.txt", types.tune.join("")),
      test: await write("code-test.txt", types.test.join("")),
    },
    skill: {
      train: await write("skill-train.jsonl", skill.train),
      tune: await write("skill-tune.jsonl", skill.tune),
      test: await write("skill-test.jsonl", skill.test),
    },
  };
}

/** The files of a folder, in the order of their names, each ended by a line break. */
async function textsOf(folder: string, names: RegExp): Promise<string[]> {
  const files = (await readdir(folder)).filter((name) => names.test(name)).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), "utf8")));
  return texts.map((text) => `${text.replaceAll("\r\n", "\n")}\n`);
}

/** Of every `n` files one to tune with and one to test with. */
function dealt(files: readonly string[], n: number) {
  const part = (keep: (place: number) => boolean) => files.filter((_, i) => keep(i % n));
  return { train: part((i) => i > 1), tune: part((i) => i === 0), test: part((i) => i === 1) };
}

/** A word of the texts, and its first and last letter in capitals: what the base cannot do, and can learn. */
function skillParts(texts: readonly string[]) {
  const counts = new Map<string, number>();
  for (const [word] of texts.join(" ").matchAll(/\b[a-z]{4,8}\b/g)) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts]
    .filter(([, n]) => n >= 20)
    .map(([word]) => word)
    .sort();
  const shuffled = Array.from(words, (_, i) => words[permuted(i, words.length, 1, 0)]!);
  const lines = shuffled.map(
    (word) =>
      `${JSON.stringify({ prompt: `${word} -> `, completion: `${word[0]}${word.at(-1)}\n`.toUpperCase() })}\n`,
  );
  const part = (from: number, to: number) => lines.slice(from, to).join("");
  return { test: part(0, 200), tune: part(200, 300), train: part(300, lines.length) };
}
