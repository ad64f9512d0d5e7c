// Models, tokenizers and adapters by the names that people type.
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import {
  adapterFolder,
  baseOf,
  chosenAdapters,
  modelFolder,
  nameAdapters,
  openTokenizer,
} from "../../src/train/open_model.ts";
import { ByteTokenizer } from "../../src/train/text/index.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, throwsLike } from "../gpu.ts";
import { tinyWorld } from "./evaluation/tiny_world.ts";

async function refused(work: Promise<unknown>, ...parts: string[]): Promise<void> {
  const error = await work.then(() => null, (e: Error) => e); // biome-ignore format: one line
  ok(error, "nothing was thrown");
  is(error.name, "ValueError", error.message);
  for (const part of parts) ok(error.message.includes(part), `"${error.message}" lacks ${part}`);
}

test("a model and an adapter by their folders, a run's adapter by the run", () =>
  inFolder(async (folder) => {
    const model = fixtureFolder("llama-tiny");
    is(await modelFolder(`${model}/`), model);
    const adapter = fixtureFolder("peft-llama-tiny");
    is(await adapterFolder(adapter), adapter);
    cpSync(adapter, `${folder}/run/adapter`, { recursive: true });
    is(await adapterFolder(`${folder}/run/`), `${folder}/run//adapter`.replace("//", "//"));
    mkdirSync(`${folder}/empty`);
    await refused(modelFolder(`${folder}/empty`), "the model must be a folder with config.json", "which has none"); // biome-ignore format: one line
    await refused(modelFolder(`${folder}/none`), "none, which is not there");
    await refused(adapterFolder(`${folder}/empty`), "the adapter must be a folder with adapter_config.json", "which has none"); // biome-ignore format: one line
    await refused(adapterFolder("./no/such"), "which is not there");
  }));

test("the base that an adapter names, where it can be found", () =>
  inFolder(async (folder) => {
    const write = (base: unknown) =>
      writeFileSync(`${folder}/adapter_config.json`, JSON.stringify({ base_model_name_or_path: base })); // biome-ignore format: one line
    for (const [base, found] of [
      [folder, folder],
      ["org/name", "org/name"],
      [null, null],
      ["", null],
      ["gone", null],
      ["./a/b", null],
    ]) {
      // biome-ignore format: one line
      write(base);
      is(await baseOf(folder), found, `${base}`);
    }
  }));

test("adapters get names: their own, or the last part of the path that says something", () => {
  const names = (...asked: string[]) => nameAdapters(asked).map(({ name }) => name);
  equal(names("out/a", "out/b/", "x/a"), ["a", "b", "a2"]);
  equal(names("out/run/adapter", "../v1.5 x", "."), ["run", "v1-5-x", "adapter"]);
  equal(nameAdapters(["n=a/b=c"]), [{ name: "n", source: "a/b=c" }]);
  equal(nameAdapters(["a/b=c"]), [{ name: "b-c", source: "a/b=c" }]);
  throwsLike(() => names("a=x", "a=y"), "ValueError", "a new one, as in a2=y, got a");
  throwsLike(() => names("base=x"), "ValueError", "another than base");
  throwsLike(() => names("a b=x"), "ValueError", "without dots, slashes, commas and blanks");
});

test("adapters are chosen by name, several by a list, none by base", () => {
  equal(chosenAdapters(" a, b", ["a", "b", "c"]), ["a", "b"]);
  equal(chosenAdapters("base", ["a"]), []);
  throwsLike(() => chosenAdapters("a,aa", ["a", "ab"]), "ValueError", "one of a, ab, base, got aa");
});

gpuTest("a tokenizer: the model's own, bytes for 256 ids, or what is named", () =>
  inFolder(async (folder) => {
    const bytes = await tinyWorld(`${folder}/bytes`);
    using byteModel = await fromPretrained(bytes.model);
    ok((await openTokenizer(bytes.model, byteModel)) instanceof ByteTokenizer);
    await refused(openTokenizer(bytes.model, byteModel, fixtureFolder("tokenizer-tiny")), "below 256"); // biome-ignore format: one line
    const own = await tinyWorld(`${folder}/own`, { tokenizer: "template" });
    using model = await fromPretrained(own.model);
    is((await openTokenizer(own.model, model)).vocabSize, 360);
    is((await openTokenizer(own.model, model, "bytes")).vocabSize, 256);
    using small = await fromPretrained(fixtureFolder("llama-tiny"));
    await refused(openTokenizer("x", small), "x holds no tokenizer.json and its vocabulary of 67 is not bytes", "Name a folder"); // biome-ignore format: one line
  }),
);

runTests();
