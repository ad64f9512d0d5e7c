// Figures of rows with and without an adapter, forgetting, and exact match on what the model writes.
import { writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { loadAdapter } from "../../../src/lora/peft.ts";
import { generate } from "../../../src/nn/generate.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { evaluate, type RowScore } from "../../../src/train/evaluate.ts";
import {
  compareWithBase,
  differenceOf,
  exactMatch,
  figuresOf,
  normalised,
  type Question,
  readQuestions,
  scoresOf,
  withoutAdapters,
} from "../../../src/train/evaluation/index.ts";
import { ByteTokenizer, loadTokenizer, type Tokenizer } from "../../../src/train/text/index.ts";
import { Windows } from "../../../src/train/windows.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests, throwsLike } from "../../gpu.ts";
import { tinyWorld, writeJsonl } from "./tiny_world.ts";

const score = (row: number, tokens: number, loss: number, right: number): RowScore => ({ row, tokens, loss, right }); // biome-ignore format: one line

async function refused(work: Promise<unknown>, name: string, ...parts: string[]): Promise<void> {
  const error = await work.then(() => null, (e: Error) => e); // biome-ignore format: one line
  ok(error, "nothing was thrown");
  is(error.name, name, error.message);
  for (const part of parts) ok(error.message.includes(part), `"${error.message}" lacks ${part}`);
}

test("figures are of tokens, not of rows; perplexity is exp of the loss, ends included", () => {
  const { loss, perplexity, accuracy, rows, tokens } = figuresOf([score(0, 10, 20, 5), score(1, 30, 30, 3)]); // biome-ignore format: one line
  equal([loss.value, accuracy.value, rows, tokens], [50 / 40, 8 / 40, 2, 40]);
  equal(Object.values(perplexity), Object.values(loss).map(Math.exp));
  ok(loss.low === 1 && loss.high === 2);
});

test("a difference needs the same rows", () => {
  const before = [score(0, 10, 20, 5), score(3, 10, 30, 3)];
  const after = [score(0, 10, 15, 6), score(3, 10, 25, 4)];
  const { loss, accuracy } = differenceOf(before, after);
  equal(
    [loss.value, loss.low, loss.high],
    [-0.5, -0.5, -0.5],
    "each row gained half a nat a token",
  );
  is(accuracy.value, 0.1);
  ok(accuracy.low < 0.1 && accuracy.high > 0.1, "two rows that agree prove little");
  for (const other of [after.slice(1), [after[0]!, score(2, 10, 1, 1)], [after[0]!, score(3, 9, 1, 1)]]) // biome-ignore format: one line
    throwsLike(
      () => differenceOf(before, other),
      "ValueError",
      "after must be of the rows of before",
    );
});

const TEXT = Int32Array.from({ length: 400 }, (_, i) => (i * i * 7 + 3 * i) % 251);

gpuTest("base against adapted without loading anything: as each alone, and switched back", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder);
    using model = await fromPretrained(world.model);
    const rows = new Windows(TEXT, 32);
    const alone = await evaluate(model, rows, { batch: 3 });
    const lora = await loadAdapter(model, world.adapters.one!);
    const adapted = await evaluate(model, rows, { batch: 5 });
    const found = await compareWithBase(model, lora, rows, { batch: 4, resamples: 200 });
    for (const [figures, expected] of [
      [found.base, alone],
      [found.adapted, adapted],
    ] as const) {
      // biome-ignore format: one line
      ok(Math.abs(figures.loss.value - expected.loss) < 1e-5);
      is(figures.accuracy.value, expected.accuracy);
      is(figures.tokens, expected.tokens);
      ok(figures.loss.low < figures.loss.value && figures.loss.value < figures.loss.high);
    }
    const { loss } = found.difference;
    ok(Math.abs(loss.value - (adapted.loss - alone.loss)) < 1e-5);
    ok(loss.low < loss.value && loss.value < loss.high);
    is(lora.enabled, true);
    await refused(withoutAdapters(lora, () => Promise.reject(new RangeError("on purpose"))), "RangeError"); // biome-ignore format: one line
    is(lora.enabled, true);
    const again = await compareWithBase(model, lora, rows, { batch: 4, resamples: 200 });
    equal(again, found);
    const few = await scoresOf(model, rows, { most: 4 });
    is(few.length, 4);
  }),
);

gpuTest("an adapter that trains biases cannot be switched off whole, and says so", () =>
  inFolder(async (folder) => {
    const adapters = { one: { r: 2, target_modules: ["q_proj"], bias: "all" as const } };
    const world = await tinyWorld(folder, { adapters });
    using model = await fromPretrained(world.model);
    const lora = await loadAdapter(model, world.adapters.one!);
    const work = compareWithBase(model, lora, new Windows(TEXT, 32));
    await refused(work, "ValueError", "of bias none", "before the adapter is loaded");
  }),
);

test("what is overlooked, and what is not", () => {
  is(normalised("  A,  b!\n", []), "  A,  b!\n");
  is(normalised("  A,  b!\n", ["strip"]), "A,  b!");
  is(normalised("  A,  b!\n", ["lowercase", "punctuation", "whitespace", "strip"]), "a b");
  is(normalised("« É »", ["punctuation", "strip"]), "É");
});

/** What the model writes after a prompt, up to a stop. */
async function written(
  model: Parameters<typeof generate>[0],
  tokenizer: Tokenizer,
  prompt: string,
  n: number,
): Promise<string> {
  const ids = tokenizer.encode(prompt);
  return tokenizer.decode(await generate(model, ids, { maxNewTokens: n, stop: [] }));
}

gpuTest(
  "exact match: hits are just those whose answer is the expected one, in batches of any size",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder);
      using model = await fromPretrained(world.model);
      const tokenizer = new ByteTokenizer();
      const questions: Question[] = [];
      const isRight: boolean[] = [];
      for (const [i, prompt] of ["Once upon", "a", "abc 12", "Hello", "to be"].entries()) {
        const answer = await written(model, tokenizer, prompt, 6);
        isRight.push(i % 2 === 0);
        const expected = i % 2 === 0 ? ` ${answer}\n` : `${answer}x`;
        questions.push({ ids: tokenizer.encode(prompt), expected, goesOn: true });
      }
      for (const batch of [1, 2, 8]) {
        const found = await exactMatch(model, tokenizer, questions, { batch, maxNewTokens: 6 });
        equal(found.map((a) => a.isHit), isRight, `batch ${batch}`); // biome-ignore format: one line
      }
      const strict = await exactMatch(model, tokenizer, questions, {
        maxNewTokens: 6,
        normalise: [],
      });
      ok(
        strict.every((a) => !a.isHit),
        "blanks count where they are not overlooked",
      );
    }),
);

gpuTest("a stop ends an answer, text or token; an adapter answers for itself", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder);
    using model = await fromPretrained(world.model);
    const tokenizer = new ByteTokenizer();
    const base = await written(model, tokenizer, "Once", 8);
    const question = (expected: string) => [
      { ids: tokenizer.encode("Once"), expected, goesOn: true },
    ];
    const at = base.indexOf(base.slice(3, 5));
    const [cut] = await exactMatch(model, tokenizer, question(base.slice(0, at)), { maxNewTokens: 8, stopTexts: [base.slice(3, 5)] }); // biome-ignore format: one line
    equal([cut!.text, cut!.isHit], [base.slice(0, at), true]);
    const tokens = await generate(model, tokenizer.encode("Once"), { maxNewTokens: 8, stop: [] });
    const [ended] = await exactMatch(model, tokenizer, question(""), { maxNewTokens: 8, stop: [tokens[0]!] }); // biome-ignore format: one line
    equal([ended!.text, ended!.isHit], ["", true]);
    await loadAdapter(model, world.adapters.one!);
    const [adapted] = await exactMatch(model, tokenizer, question(base), { maxNewTokens: 8 });
    is(adapted!.isHit, false);
  }),
);

gpuTest("questions of files: completions and chats; what is neither is refused by its line", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { tokenizer: "template" });
    using model = await fromPretrained(world.model);
    const tokenizer = await loadTokenizer(world.model, { model });
    const messages = [{ role: "user", content: "one" }, { role: "assistant", content: "two" }]; // biome-ignore format: one line
    const good = writeJsonl(`${folder}/q.jsonl`, [
      { prompt: "2+2=", completion: "4" },
      { messages },
    ]);
    const questions = await readQuestions(tokenizer, [good]);
    equal(questions.map((q) => [q.expected, q.goesOn]), [["4", true], ["two", false]]); // biome-ignore format: one line
    const answers = await exactMatch(model, tokenizer, questions, { maxNewTokens: 4 });
    is(answers.length, 2);
    const bad = writeJsonl(`${folder}/bad.jsonl`, [
      { prompt: "a", completion: "b" },
      { text: "c" },
    ]);
    await refused(readQuestions(tokenizer, [bad]), "FormatError", "bad.jsonl, line 2: a text has no answer"); // biome-ignore format: one line
    writeFileSync(`${folder}/broken.jsonl`, '{"prompt": "a"}\n');
    await refused(readQuestions(tokenizer, [`${folder}/broken.jsonl`]), "FormatError", "line 1: a prompt without a completion"); // biome-ignore format: one line
  }),
);

gpuTest("exact match: what cannot be is refused", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder);
    using model = await fromPretrained(world.model);
    const bytes = new ByteTokenizer();
    const one = [{ ids: [65], expected: "x", goesOn: true }];
    await refused(exactMatch(model, bytes, []), "ValueError", "questions must be at least one");
    await refused(exactMatch(model, bytes, one, { batch: 0 }), "ValueError", "batch must be a positive integer"); // biome-ignore format: one line
    await refused(exactMatch(model, bytes, one, { normalise: ["x" as "strip"] }), "ValueError", "made of lowercase"); // biome-ignore format: one line
    const long = [...one, { ids: new Array(64).fill(65), expected: "x", goesOn: true }];
    await refused(exactMatch(model, bytes, long), "ValueError", "the prompt of question 2 must be of at most 63 tokens"); // biome-ignore format: one line
  }),
);

runTests();
