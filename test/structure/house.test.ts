// The house rules that a machine can check: imports go down, and one op has one name.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "uvu";
import { equal, ok } from "uvu/assert";

const root = resolve(import.meta.dirname, "../..");
const ROOMS = ["gpu", "tensor", "kernels", "autograd", "nn", "lora", "train", "cli"];

function filesUnder(folder: string, extension: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(extension))
    .map((name) => join(root, folder, name));
}

/** Files whose imports go up the list of rooms, as `importer -> imported`. */
function upward(files: readonly { path: string; text: string }[]): string[] {
  const wrong: string[] = [];
  for (const { path, text } of files) {
    const from = ROOMS.indexOf(relative(join(root, "src"), path).split("/")[0]!);
    for (const [, target] of text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)) {
      const file = resolve(dirname(path), target!);
      const to = ROOMS.indexOf(relative(join(root, "src"), file).split("/")[0]!);
      if (from >= 0 && to > from) wrong.push(`${relative(root, path)} -> ${relative(root, file)}`);
    }
  }
  return wrong;
}

test("imports go down the list of rooms, never up", () => {
  const files = filesUnder("src", ".ts").map((path) => ({
    path,
    text: readFileSync(path, "utf8"),
  }));
  ok(files.length > 20);
  equal(upward(files), []);
});

test("an import that goes up is noticed", () => {
  const path = join(root, "src/tensor/shape.ts");
  equal(upward([{ path, text: 'import { x } from "../nn/module.ts";' }]).length, 1);
});

test("every kernel's parts are found by its name", () => {
  const names = filesUnder("src/kernels/wgsl", ".wgsl")
    .map((path) => relative(join(root, "src/kernels/wgsl"), path))
    .filter((name) => !name.startsWith("lib/"))
    .map((name) => name.split(".")[0]!);
  const missing: string[] = [];
  for (const name of new Set(names)) {
    const entries = filesUnder("src/kernels/wgsl", ".wgsl")
      .filter((path) => relative(join(root, "src/kernels/wgsl"), path).split(".")[0] === name)
      .flatMap((path) =>
        [...readFileSync(path, "utf8").matchAll(/@compute[^{]*?fn (\w+)/g)].map(([, fn]) => fn!),
      );
    for (const entry of entries) {
      if (entry !== name && !entry.startsWith(`${name}_`)) missing.push(`${name}: entry ${entry}`);
    }
    const parts = [`src/kernels/${name}.ts`];
    const own = filesUnder("src/autograd/ops", ".ts").some((path) => path.endsWith(`/${name}.ts`));
    if (own) parts.push(`test/ops/${name}.test.ts`);
    // The reference of a cast is the codec of src/tensor/dtype.ts, all of whose patterns are tested.
    if (own && name !== "cast") parts.push(`test/reference/${name}.ts`);
    for (const part of parts) {
      try {
        readFileSync(join(root, part));
      } catch {
        missing.push(`${name}: no ${part}`);
      }
    }
  }
  equal(missing, []);
});

test("every code of the catalogue of kernels, modules and files stands in a test's name", () => {
  const texts = filesUnder("test", ".ts").map((path) => readFileSync(path, "utf8"));
  const names = texts.flatMap((text) =>
    [...text.matchAll(/(?:est\(\s*|what: )[`"](.*)/g)].map(([, name]) => name),
  );
  const found = new Set(names.join(" ").match(/\b[KMF]\d+\b/g));
  const range = (letter: string, last: number) =>
    Array.from({ length: last }, (_, i) => `${letter}${i + 1}`);
  const codes = [...range("K", 7), ...range("M", 17), ...range("F", 8)];
  equal(codes.filter((code) => !found.has(code)), []); // biome-ignore format: one line
});

test.run();
