// The demo's texts: nothing held out stands in training text, and the recorded results are of these texts.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { baseCorpus, fingerprint, promptOf, targetCorpus } from "../../examples/demo/corpora.ts";
import { PASSAGE, withoutPassages } from "../../examples/demo/passages.ts";
import {
  arms,
  BASE_FOLDER,
  baseTraining,
  HELD_WINDOWS,
  TUNING_FILE,
} from "../../examples/demo/settings.ts";
import { LowrankError } from "../../src/gpu/errors.ts";
import { readJson } from "../../src/tensor/files.ts";
import { inFolder } from "../child.ts";

const string = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

/** Starts of those `length` bytes of a text that stand in another text too. Compares strings, not hashes. */
function sharedStarts(text: Uint8Array, other: Uint8Array, length = PASSAGE): number[] {
  const [a, b] = [string(text), string(other)];
  const known = new Set<string>();
  for (let i = 0; i + length <= a.length; i++) known.add(a.slice(i, i + length));
  const both = new Set<string>();
  for (let i = 0; i + length <= b.length; i++) {
    const passage = b.slice(i, i + length);
    if (known.has(passage)) both.add(passage);
  }
  const starts = [];
  for (let i = 0; i + length <= a.length; i++) if (both.has(a.slice(i, i + length))) starts.push(i);
  return starts;
}

const corpora = { base: await baseCorpus(), target: await targetCorpus() };

for (const [domain, { train, tune, test: report }] of Object.entries(corpora)) {
  test(`no ${PASSAGE} bytes of held-out text stand in training text: ${domain}`, () => {
    equal(sharedStarts(report, train), []);
    equal(sharedStarts(tune, train), []);
    equal(sharedStarts(tune, report), []);
  });

  test(`the parts of a corpus are large enough: ${domain}`, () => {
    ok(train.length > 3 * (tune.length + report.length));
    for (const part of [tune, report]) ok(part.length > HELD_WINDOWS * arms.length);
  });
}

test("a passage that is in both texts is found, and its lines alone are left out", () => {
  const line = (i: number) => `line ${i} says ${Math.sin(i)} and ${Math.cos(i)} and no more\n`;
  const numbers = Array.from({ length: 200 }, (_, i) => i);
  const text = Buffer.from(numbers.map(line).join(""));
  const [one, two] = [7, 150].map((i) => line(i).trimEnd());
  const held = Buffer.from(`some other words: ${one}; ${two}; and so on\n`);
  ok(sharedStarts(held, text).length > 0);
  const rest = withoutPassages(text, [held]);
  equal(sharedStarts(held, rest), []);
  const expected = numbers.filter((i) => i !== 7 && i !== 150).map(line);
  is(string(rest), expected.join(""));
});

test("lines that become neighbours and make a passage go too", () => {
  const [a, b] = ["a".padEnd(30, "x"), "b".padEnd(30, "y")];
  const between = "0123456789".repeat(6);
  const text = Buffer.from(`first line\n${a}\n${between}\n${b}\nlast line\n`);
  const held = Buffer.from(`${a}\n${b}\n\0${between}`);
  is(string(withoutPassages(text, [held])), "first line\nlast line\n");
});

const refused = (file: string, ...parts: string[]) =>
  targetCorpus(file).then(
    () => ok(false, `${file} was taken`),
    (error) => {
      ok(error instanceof LowrankError, `${error}`);
      for (const part of parts) ok(error.message.includes(part), error.message);
    },
  );

test("texts of one's own that cannot be used are refused", () =>
  inFolder(async (folder) => {
    const write = async (name: string, content: string | Uint8Array) => {
      await writeFile(join(folder, name), content);
      return join(folder, name);
    };
    const missing = join(folder, "missing.txt");
    await refused(missing, missing, "must be a file that can be read", "no such file");
    await refused(folder, folder, "must be a file that can be read", "directory");
    await refused(await write("empty", ""), "at least 4096 bytes", "got an empty file");
    await refused(await write("tiny", "one line\n"), "at least 4096 bytes", "got 9");
    await refused(await write("zeros", new Uint8Array(9999)), "UTF-8 text", "binary data");
    await refused(await write("image", Buffer.alloc(9999, 0xfe)), "UTF-8 text", "binary data");
    const again = "All work and no play makes Jack a dull boy, and so says every line.\n";
    await refused(await write("twice", again.repeat(999)), "--text", "does not repeat", "got 0");
  }));

test("a text of one long line, in any script, is cut between characters", () =>
  inFolder(async (folder) => {
    const words = Array.from({ length: 4000 }, (_, i) => `größe${(i * 2654435761) % 9973}`);
    await writeFile(join(folder, "long.txt"), words.join(" "));
    const { train, tune, test: report } = await targetCorpus(join(folder, "long.txt"));
    is(tune.length, 0);
    ok(train.length > 2048);
    equal(sharedStarts(report, train), []);
    const decode = (text: Uint8Array) => new TextDecoder("utf-8", { fatal: true }).decode(text);
    for (const text of [train, report, promptOf(report)]) ok(decode(text).length > 0);
  }));

test("the committed base was trained on this very text, with these settings, to a plateau", async () => {
  const record = await readJson(`${BASE_FOLDER}/training.json`);
  const again =
    "node_modules or the split has changed: `npm run demo:base`, then `npm run demo:tune`";
  is(record.trainSha256, fingerprint(corpora.base.train), again);
  for (const [name, value] of Object.entries(baseTraining)) is(record[name], value, name);
  const curve = record.curve as { step: number; loss: number }[];
  const last = curve.at(-1)!;
  is(last.step, baseTraining.steps);
  const late = curve.filter(({ step }) => step >= 0.85 * baseTraining.steps);
  ok(late.length >= 3);
  for (const { loss } of late) ok(Math.abs(loss - last.loss) < 0.02 * last.loss, `${loss}`);
  const checkpoint = await readFile(`${BASE_FOLDER}/model.safetensors`);
  ok(checkpoint.length <= 6e6);
});

test("both learning rates are the best of their grids, not at an edge, for this base and these settings", async () => {
  const record = await readJson(TUNING_FILE);
  const checkpoint = await readFile(`${BASE_FOLDER}/model.safetensors`);
  is(record.baseSha256, fingerprint(checkpoint), "the base has changed: `npm run demo:tune`");
  equal(record.settings, arms);
  const results = record.results as { arm: string; lr: number; loss: number }[];
  const best = record.best as Record<string, number>;
  for (const arm of ["lora", "full"]) {
    const tried = results.filter((result) => result.arm === arm);
    ok(tried.length >= 4);
    const losses = tried.map(({ loss }) => loss);
    const lowest = losses.indexOf(Math.min(...losses));
    is(best[arm], tried[lowest]!.lr);
    ok(lowest > 0 && lowest < tried.length - 1, `${arm} at an edge of its grid`);
  }
  match(JSON.stringify(record.text), /"tuneSha256":"[0-9a-f]{64}"/);
});

test.run();
