// `lowrank eval`: a model and its adapters on held-out data, on general text, and on questions with known answers.
import type { Command } from "commander";
import { loadAdapter } from "../lora/peft.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import type { RowScore } from "../train/evaluate.ts";
import {
  bootstrap,
  bootstrapDifference,
  differenceOf,
  exactMatch,
  figuresOf,
  type MatchedAnswer,
  type Normalisation,
  type Question,
  readQuestions,
  scoresOf,
} from "../train/evaluation/index.ts";
import { readRows } from "../train/evaluation/read_rows.ts";
import type { RowSet } from "../train/rows.ts";
import type { Tokenizer } from "../train/text/tokenizer.ts";
import { action, examples, list, number } from "./action.ts";
import { UsageError } from "./errors.ts";
import { type EvalDocument, evalText, type MatchRow, type SetFigures } from "./eval_text.ts";
import { LateBar } from "./late_bar.ts";
import {
  addModelOptions,
  checkSamples,
  collect,
  findModel,
  type ModelOptions,
  oneOf,
  openModel,
} from "./models.ts";
import type { Output } from "./output.ts";
import { counted } from "./text.ts";

const EXAMPLES = examples({
  "lowrank eval -a out/run --data valid.jsonl":
    "base against adapter on held-out data, with intervals",
  "lowrank eval -a out/run --data valid.jsonl --forgetting wiki.txt": "and what the adapter forgot, on general text", // biome-ignore format: one line
  'lowrank eval -a out/run --exact-match questions.jsonl --stop "\\n"': "how many answers are exactly the expected ones", // biome-ignore format: one line
  "lowrank eval -m models/base -a a=out/one -a b=out/two --data valid.jsonl": "two adapters, each against the base", // biome-ignore format: one line
  "lowrank eval -m org/name --data book.txt --limit 50 --json | jq .sets[0].base.perplexity": "a model alone, on 50 rows, for a script", // biome-ignore format: one line
});

interface Options extends ModelOptions {
  data?: string[];
  forgetting?: string[];
  exactMatch?: string[];
  limit?: number;
  batch: number;
  length?: number;
  learn: "completions" | "all";
  long?: "error" | "truncate" | "drop" | "split";
  skipBad?: boolean;
  maxTokens?: number;
  stop?: string[];
  normalise?: string[];
  level: number;
  resamples: number;
  seed: number;
}

export function addEval(program: Command): void {
  const command = program
    .command("eval")
    .summary("measures a model and its adapters on data, general text and questions")
    .description(
      "Measures loss, perplexity and accuracy of tokens on held-out data (--data), what an adapter\n" +
        "forgot on general text (--forgetting), and how many answers are exactly the expected ones\n" +
        "(--exact-match). Each figure comes with an interval that holds its true value with a\n" +
        "probability of --level, from rows drawn anew; base and adapter are compared row by row.",
    );
  addModelOptions(command)
    .option("-d, --data <path>", "held-out JSONL, text or a folder; several times for several", collect) // biome-ignore format: one line
    .option("--forgetting <path>", "general text: the loss that the adapter adds there is what it forgot", collect) // biome-ignore format: one line
    .option("--general <path>", "the same as --forgetting", collect)
    .option("--exact-match <path>", "JSONL with prompt and completion, or messages", collect)
    .option("--limit <n>", "rows of each set, and questions, at most; spread evenly over it", number("--limit")) // biome-ignore format: one line
    .option("--batch <n>", "rows at once", number("--batch"), 8)
    .option("--length <n>", "tokens of a row (default: the context, at most 512)", number("--length", "a positive integer")) // biome-ignore format: one line
    .option("--learn <what>", "which tokens count: completions, all", oneOf("--learn", ["completions", "all"]), "completions") // biome-ignore format: one line
    .option("--long <way>", "longer samples: error, truncate, drop, split (default: plain text is split, lines of JSONL are an error)", oneOf("--long", ["error", "truncate", "drop", "split"])) // biome-ignore format: one line
    .option("--skip-bad", "passes over samples that cannot be used, and counts them")
    .option("-n, --max-tokens <n>", "most tokens of an answer (default: the longest expected, and 8)", number("--max-tokens", "a positive integer")) // biome-ignore format: one line
    .option("--stop <text>", "ends an answer, and is not part of it; \\n is a new line", collect)
    .option("--normalise <ways>", "what is overlooked: strip, lowercase, whitespace, punctuation, or none (default: strip)", list) // biome-ignore format: one line
    .option("--level <p>", "probability that an interval holds the true value", number("--level"), 0.95) // biome-ignore format: one line
    .option("--resamples <n>", "how often rows are drawn anew", number("--resamples"), 2000)
    .option("--seed <n>", "of these draws", number("--seed"), 0)
    .addHelpText("after", EXAMPLES)
    .action(action<Options & { general?: string[] }>(evaluateCall));
}

/** A set of rows or questions, and what each model made of it: the base under the name "". */
interface LoadedSet {
  path: string;
  kind: "data" | "general";
  rows: RowSet;
  notes: string[];
  scores: Map<string, RowScore[]>;
}

interface LoadedQuestions {
  path: string;
  questions: Question[];
  stopTexts: string[];
  answers: Map<string, MatchedAnswer[]>;
}

async function evaluateCall(output: Output, options: Options & { general?: string[] }) {
  const { data = [], forgetting = [], general = [], exactMatch: matches = [] } = options;
  const asked = [...data, ...forgetting, ...general, ...matches];
  checkCall(options, asked.length);
  await checkSamples(asked);
  const found = await findModel(output, options);
  const { model, tokenizer } = await openModel(output, found, options);
  try {
    const paths = [
      ...data.map((path) => ({ path, kind: "data" as const })),
      ...[...forgetting, ...general].map((path) => ({ path, kind: "general" as const })),
    ];
    const { maxLength } = model.sizes;
    if ((options.length ?? 0) > maxLength) {
      const expected = `at most ${maxLength}, the model's context`;
      throw new UsageError({ op: "lowrank", arg: "--length", expected, got: `${options.length}` });
    }
    const sets: LoadedSet[] = [];
    for (const { path, kind } of paths) {
      const read = await readRows(tokenizer, [path], { ...options, maxLength });
      for (const note of read.notes) output.note(`${path}: ${note}`);
      sets.push({ path, kind, ...read, scores: new Map() });
    }
    const asks: LoadedQuestions[] = [];
    for (const path of matches) asks.push(await questionsOf(output, tokenizer, path, options));
    // The base first: an adapter that trains biases changes it as soon as it is loaded.
    await measure(output, model, tokenizer, "", sets, asks, options);
    for (const { name, folder } of found.adapters) {
      const lora = await loadAdapter(model, folder, name);
      await measure(output, model, tokenizer, name, sets, asks, options);
      lora.remove();
    }
    const document = documentOf(found.model, found.adapters.map((a) => a.name), sets, asks, options); // biome-ignore format: one line
    output.document(document);
    output.say(evalText(document));
  } finally {
    model.dispose();
  }
}

function checkCall(options: Options, sets: number): void {
  const refuse = (arg: string, expected: string, got: string) => {
    throw new UsageError({ op: "lowrank", arg, expected, got });
  };
  const { level, resamples, batch, limit, normalise } = options;
  if (sets === 0) refuse("--data, --forgetting or --exact-match", "given", "none of them");
  if (!(level > 0 && level < 1)) refuse("--level", "between 0 and 1", `${level}`);
  for (const [flag, n] of Object.entries({
    "--resamples": resamples,
    "--batch": batch,
    "--limit": limit,
  })) {
    // biome-ignore format: one line
    if (n !== undefined && !(Number.isSafeInteger(n) && n > 0)) refuse(flag, "a positive integer", `${n}`); // biome-ignore format: one line
  }
  const known = ["strip", "lowercase", "whitespace", "punctuation", "none"];
  const odd = normalise?.find((way) => !known.includes(way));
  if (odd !== undefined) refuse("--normalise", `made of ${known.join(", ")}`, odd);
}

async function questionsOf(
  output: Output,
  tokenizer: Tokenizer,
  path: string,
  { limit = Infinity, stop, skipBad }: Options,
): Promise<LoadedQuestions> {
  const bad: string[] = [];
  const all = await readQuestions(
    tokenizer,
    [path],
    skipBad ? (problem) => bad.push(problem) : undefined,
  );
  if (bad.length > 0) output.note(`${counted(bad.length, "sample")} passed over as bad: ${bad[0]}`);
  const n = Math.min(limit, all.length);
  const questions = Array.from({ length: n }, (_, i) => all[Math.floor((i * all.length) / n)]!);
  const stopTexts = (stop ?? []).map((text) =>
    text.replaceAll("\\n", "\n").replaceAll("\\t", "\t"),
  );
  const oneLine = questions.every(({ expected }) => !expected.trim().includes("\n"));
  if (stop === undefined && tokenizer.eosId === null && oneLine) {
    output.note(`${path}: the tokenizer has no token that ends a text, so answers end with their line; see --stop`); // biome-ignore format: one line
    stopTexts.push("\n");
  }
  return { path, questions, stopTexts, answers: new Map() };
}

async function measure(
  output: Output,
  model: CausalLM,
  tokenizer: Tokenizer,
  name: string,
  sets: readonly LoadedSet[],
  asks: readonly LoadedQuestions[],
  options: Options,
): Promise<void> {
  const who = name || "base";
  for (const { path, rows, scores } of sets) {
    const bar = new LateBar(output, `${who} on ${path}`);
    const { batch, limit } = options;
    const sizes = { batch, ...(limit === undefined ? {} : { most: limit }) };
    scores.set(name, await scoresOf(model, rows, { ...sizes, onRow: (done, of) => bar.update(done, of) })); // biome-ignore format: one line
    bar.end();
  }
  for (const { path, questions, stopTexts, answers } of asks) {
    const bar = new LateBar(output, `${who} answers ${path}`);
    const { batch, maxTokens, normalise = ["strip"] } = options;
    const found = await exactMatch(model, tokenizer, questions, {
      ...{ batch, stopTexts, onAnswer: (done: number, of: number) => bar.update(done, of) },
      normalise: normalise.filter((way) => way !== "none") as Normalisation[],
      ...(maxTokens === undefined ? {} : { maxNewTokens: maxTokens }),
    });
    answers.set(name, found);
    bar.end();
  }
}

function documentOf(
  model: string,
  names: readonly string[],
  sets: readonly LoadedSet[],
  asks: readonly LoadedQuestions[],
  { level, resamples, seed }: Options,
): EvalDocument {
  const draws = { level, resamples, seed };
  return {
    model,
    ...draws,
    sets: sets.map(({ path, kind, scores }): SetFigures => {
      const before = scores.get("")!;
      const adapters = names.map((name) => {
        const after = scores.get(name)!;
        return { name, ...figuresOf(after, draws), difference: differenceOf(before, after, draws) };
      });
      return { path, kind, base: figuresOf(before, draws), adapters };
    }),
    exact_match: asks.map(({ path, questions, answers }): MatchRow => {
      const hits = (name: string) => answers.get(name)!.map(({ isHit }) => Number(isHit));
      const ones = questions.map(() => 1);
      const shares = { ...draws, bounds: [0, 1] as const };
      const of = (name: string) => ({ ...bootstrap(hits(name), ones, shares), answers: answers.get(name)! }); // biome-ignore format: one line
      return {
        path,
        questions: questions.length,
        base: of(""),
        adapters: names.map((name) => {
          const difference = bootstrapDifference(hits(""), hits(name), ones, shares);
          return { name, ...of(name), difference };
        }),
      };
    }),
  };
}
