// `lowrank eval`, run as a user runs it, against what the library computes of the same files.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { equal, is, match, not, ok } from "uvu/assert";
import { loadAdapter } from "../../src/lora/peft.ts";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { readRows } from "../../src/train/evaluation/index.ts";
import { ByteTokenizer } from "../../src/train/text/index.ts";
import { inFolder } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { tinyWorld, writeJsonl } from "../train/evaluation/tiny_world.ts";
import { inProcess } from "./command.ts";

const CONFIG = { r: 2, target_modules: ["q_proj", "down_proj"] };
const LINES = Array.from({ length: 24 }, (_, i) => ({ prompt: `question ${i * 7} is `, completion: `${i * i}.` })); // biome-ignore format: one line
const TEXT = Array.from({ length: 60 }, (_, i) => `Line ${i} of a text, ${i * 31}.`).join("\n");

gpuTest(
  "base, two adapters, one that trains biases: each figure is the library's, base and all",
  () =>
    inFolder(async (folder) => {
      const biased = { ...CONFIG, bias: "all" as const };
      const world = await tinyWorld(folder, { adapters: { b: biased, a: CONFIG } });
      const data = writeJsonl(`${folder}/valid.jsonl`, LINES);
      writeFileSync(`${folder}/general.txt`, TEXT);
      const args = ["eval", "-m", world.model, "-a", world.adapters.b!, "-a", world.adapters.a!];
      const files = ["--data", data, "--forgetting", `${folder}/general.txt`, "--resamples", "200"];
      const { code, stdout, stderr } = await inProcess([...args, ...files, "--json", "--quiet"]);
      equal([code, stderr], [0, ""]);
      const { model: path, level, sets } = JSON.parse(stdout);
      equal([path, level, sets.length], [world.model, 0.95, 2]);
      const tokenizer = new ByteTokenizer();
      for (const [i, file] of [data, `${folder}/general.txt`].entries()) {
        equal([sets[i].path, sets[i].kind], [file, i === 0 ? "data" : "general"]);
        const { rows } = await readRows(tokenizer, [file], { maxLength: 64 });
        for (const name of ["", "b", "a"]) {
          using model = await fromPretrained(world.model);
          if (name) await loadAdapter(model, world.adapters[name]!);
          const expected = await evaluate(model, rows);
          const got = name ? sets[i].adapters.find((a: { name: string }) => a.name === name) : sets[i].base; // biome-ignore format: one line
          ok(Math.abs(got.loss.value - expected.loss) < 1e-5, `${name} on ${file}`);
          is(got.accuracy.value, expected.accuracy);
          is(got.tokens, expected.tokens);
          if (!name) continue;
          const change = got.loss.value - sets[i].base.loss.value;
          ok(Math.abs(got.difference.loss.value - change) < 1e-9);
        }
      }
      const text = await inProcess([...args, ...files, "--limit", "5"]);
      is(text.code, 0, text.stderr);
      match(
        text.stdout,
        /^data: .*valid\.jsonl, 5 rows, [\d,]+ tokens\n +loss +perplexity +accuracy\nbase +/,
      );
      match(text.stdout, /\na − base +[+−][\d.]+ \[[+−\d.]+, [+−\d.]+\]/);
      match(text.stdout, /general text: .*\n[\s\S]*(forgot|chance|gained)/);
      match(text.stdout, "5 rows are few");
      const one = (await inProcess([...args, ...files, "--limit", "1"])).stdout;
      match(one, /jsonl, 1 row, \d+ tokens\n.*\nbase +[\d.]+ +[\d.]+ +[\d.]+ %/);
      match(one, "One row says little: only several show a spread.");
      not.match(one, /is (better|worse)|forgot \d|gained|chance/);
      not.match(text.stdout, /undefined|NaN|\[object/);
    }),
);

gpuTest("exact match: hits of base and adapter, what is overlooked, what was missed", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { adapters: { a: CONFIG } });
    const prompts = ["Once", "abc", "to be or", "12"];
    const completions: string[] = [];
    {
      using model = await fromPretrained(world.model);
      const tokenizer = new ByteTokenizer();
      for (const prompt of prompts) {
        const tokens = await generate(model, tokenizer.encode(prompt), {
          maxNewTokens: 5,
          stop: [],
        });
        completions.push(tokenizer.decode(tokens).split("\n")[0]!);
      }
    }
    const rows = prompts.map((prompt, i) => ({
      prompt,
      completion: i === 3 ? "wrong" : completions[i]!,
    }));
    const usable = rows.filter(({ completion }) => completion.trim() !== "");
    const file = writeJsonl(`${folder}/q.jsonl`, usable);
    const args = ["eval", "-a", world.adapters.a!, "--exact-match", file, "-n", "5"];
    const { code, stdout, stderr } = await inProcess([...args, "--json"]);
    is(code, 0, stderr);
    match(stderr, "answers end with their line; see --stop");
    const [found] = JSON.parse(stdout).exact_match;
    is(found.questions, usable.length);
    is(found.base.value, (usable.length - 1) / usable.length);
    ok(found.base.low < found.base.value && found.base.high >= found.base.value);
    is(found.adapters[0].difference.value, found.adapters[0].value - found.base.value);
    const text = await inProcess([...args, "--stop", "\\n", "--normalise", "none"]);
    match(text.stdout, /^exact match: .* questions\n +hits +− base\nbase +/);
    match(text.stdout, /missed: expected ".*", got "/);
    not.match(text.stderr, "see --stop");
    match(text.stdout, /\n\d questions are few: /);
    const bad = `${folder}/bad.jsonl`;
    writeFileSync(bad, `${readFileSync(file, "utf8")}{"prompt": "a"}\nno JSON\n`);
    const passed = await inProcess([...args.map((a) => (a === file ? bad : a)), "--skip-bad"]);
    match(passed.stderr, /^2 samples passed over as bad: .*bad\.jsonl, line \d: a prompt without/m);
    match(passed.stdout, `bad.jsonl, ${usable.length} questions`);
    writeFileSync(bad, "");
    const none = await inProcess([...args.map((a) => (a === file ? bad : a))]);
    match(none.stderr, /^exactMatch: .*bad\.jsonl must be at least one question, got none\./m);
  }),
);

gpuTest("what is wrong: exit codes and messages, and nothing on stdout", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { adapters: { a: CONFIG } });
    const data = writeJsonl(`${folder}/d.jsonl`, LINES);
    const bad = writeJsonl(`${folder}/bad.jsonl`, [...LINES, { prompt: "no completion" }]);
    const m = ["eval", "-m", world.model];
    const calls: [string[], number, string][] = [
      [["eval", "--data", data], 2, "--model must be given"],
      [m, 2, "--data, --forgetting or --exact-match must be given, got none of them"],
      [[...m, "--data", data, "--level", "95"], 2, "--level must be between 0 and 1, got 95"],
      [[...m, "--data", data, "--limit", "0"], 2, "--limit must be a positive integer, got 0"],
      [[...m, "--exact-match", data, "--normalise", "case"], 2, "--normalise must be made of strip"],
      [[...m, "--data", `${folder}/none.jsonl`], 1, "none.jsonl"],
      [[...m, "--data", data, "--length", "9999"], 2, "lowrank: --length must be at most 64, the model's context, got 9999"],
      [[...m, "--data", bad], 1, "bad.jsonl, line 25: a prompt without a completion"],
      [[...m, "--data", data, "--length", "8"], 1, "line 1: 16 tokens, but 9 fit"],
    ]; // biome-ignore format: as a table
    for (const [args, code, message] of calls) {
      const ended = await inProcess(args);
      is(ended.code, code, `${args.join(" ")}\n${ended.stderr}`);
      ok(ended.stderr.includes(message), `${args.join(" ")}: ${ended.stderr}`);
      is(ended.stdout, "");
    }
    const unread = `${folder}/unread`; // no weights: they are not loaded for data that is not there
    mkdirSync(unread);
    copyFileSync(`${world.model}/config.json`, `${unread}/config.json`);
    for (const flag of ["--data", "--forgetting", "--exact-match"]) {
      const { code, stderr } = await inProcess([
        "eval",
        "-m",
        unread,
        flag,
        `${folder}/none.jsonl`,
      ]);
      is(code, 1);
      match(stderr, /none\.jsonl must be a file that can be read/);
    }
    const skipped = await inProcess([...m, "--data", bad, "--skip-bad"]);
    is(skipped.code, 0, skipped.stderr);
    match(skipped.stderr, "1 sample passed over as bad: ");
  }),
);

runTests();
