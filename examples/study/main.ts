// `npm run study`: runs every experiment that has no result yet, and writes docs/study/results.json and its pictures.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { init } from "../../src/gpu/device.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { readJson, writeFileSafely } from "../../src/tensor/files.ts";
import { exactMatch, readQuestions } from "../../src/train/evaluation/exact_match.ts";
import { Base } from "../../src/train/recipe/base.ts";
import { resolveConfig } from "../../src/train/recipe/resolve.ts";
import { trainRun } from "../../src/train/recipe/train_run.ts";
import { ByteTokenizer } from "../../src/train/text/bytes.ts";
import { trainBase } from "./base.ts";
import { writeCorpora } from "./corpora.ts";
import {
  ARMS,
  type Arm,
  type BestRate,
  type Domain,
  type Experiment,
  experiments,
  ratesOf,
  tuning,
  tuningId,
} from "./experiments.ts";
import { type Latency, latencyOf } from "./latency.ts";
import { drawAll } from "./pictures.ts";
import { type Result, resultOf } from "./result.ts";
import { tables } from "./tables.ts";

const root = join(import.meta.dirname, "../..");
const RUNS = join(root, "out/study");
const BASE = join(import.meta.dirname, "base");
const DOCS = join(root, "docs/study");
const RESULTS = join(DOCS, "results.json");
/** On the small text, rates this close to the best in nats get these seeds too before one is chosen. */
const [NOISE, MORE_SEEDS] = [0.02, [4, 5]];

const { values } = parseArgs({
  options: {
    base: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    latency: { type: "boolean", default: false },
  },
});

const gpu = await init();
console.log(`The study on ${gpu.description}`);
const paths = await writeCorpora(join(RUNS, "data"));
if (values.base || !existsSync(BASE)) await trainBase(BASE, paths);

const known = existsSync(RESULTS) ? await readJson(RESULTS) : {};
const results = new Map<string, Result>(Object.entries((known.results as object) ?? {}));
let latency = (known.latency as Latency | undefined) ?? null;

/** Writes what is known by now. */
async function save(): Promise<void> {
  const all = { device: gpu.description, latency, results: Object.fromEntries(results) };
  await writeFileSafely(RESULTS, `${JSON.stringify(all, null, 1)}\n`);
}

let shared: Base | null = null;
const tokenizer = new ByteTokenizer();
const questions = await readQuestions(tokenizer, [paths.skill.test]);

/** Share of the questions that a model answers to the letter, with greedy choice. */
async function exactShare(model: CausalLM): Promise<number> {
  const answers = await exactMatch(model, tokenizer, questions, { batch: 20, stopTexts: ["\n"] });
  return answers.filter(({ isHit }) => isHit).length / answers.length;
}

/** Runs what has no result, and keeps each result as it comes. */
async function runAll(list: readonly Experiment[]): Promise<void> {
  const missing = list.filter(({ id }) => id.includes(values.only) && !results.has(id));
  for (const [i, { id, config }] of missing.entries()) {
    const output = join(RUNS, "runs", id);
    const asked = { ...config, model: BASE, output, resume: "if-present" as const };
    shared ??= await Base.open(resolveConfig(asked));
    const isSkill = id.startsWith("skill/");
    const before = isSkill ? await exactShare(await shared.shared("f32")) : 0;
    let after = 0;
    const summary = await trainRun(asked, {
      base: shared,
      onTrained: async (model) => {
        if (isSkill) after = await exactShare(model);
      },
    });
    results.set(id, await resultOf(summary, isSkill ? { before, after } : null));
    await save();
    const { valid, general } = results.get(id)!;
    console.log(
      `${i + 1} of ${missing.length} ${id}: ${valid.after.toFixed(3)}, ${general.after.toFixed(3)}`,
    );
  }
}

/** What was reached at a rate on the text that is tuned on: the mean of the seeds that were tried. */
function tuned(domain: Domain, arm: Arm, lr: number): number {
  const seeds = [0, ...MORE_SEEDS].flatMap(
    (seed) => results.get(tuningId(domain, arm, lr, seed))?.valid.after ?? [],
  );
  return seeds.reduce((a, b) => a + b, 0) / seeds.length;
}

/** The rate with the lowest loss on the text that is tuned on. */
const best: BestRate = (domain, arm) =>
  ratesOf(domain, arm).reduce((a, b) => (tuned(domain, arm, b) < tuned(domain, arm, a) ? b : a));

/** Whether a rate on the small text is within the noise of one seed of the best. */
function isClose(lr: number, arm: Arm): boolean {
  return tuned("small", arm, lr) < tuned("small", arm, best("small", arm)) + NOISE;
}

await runAll(tuning(paths));
const close = ARMS.flatMap((arm) =>
  ratesOf("small", arm).flatMap((lr) => (isClose(lr, arm) ? [{ arm, lr }] : [])),
);
for (const seed of MORE_SEEDS) {
  const ids = new Set(close.map(({ arm, lr }) => tuningId("small", arm, lr, seed)));
  await runAll(tuning(paths, seed).filter(({ id }) => ids.has(id)));
}
await runAll(experiments(paths, best));
const adapter = join(RUNS, "runs/main/far-lora-1/adapter");
if (values.latency || (!latency && existsSync(adapter))) {
  latency = await latencyOf(BASE, adapter, paths.code.test);
  await save();
}
await drawAll(results, DOCS);
const page = await readFile(join(DOCS, "README.md"), "utf8");
const written = Object.entries(tables({ results, latency: latency && { ...latency } })).reduce(
  (text, [name, table]) =>
    text.replace(
      new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- /${name} -->)`),
      (_, open, close) => `${open}${table}\n${close}`,
    ),
  page,
);
await writeFileSafely(join(DOCS, "README.md"), written);
