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
  DOMAINS,
  type Domain,
  type Experiment,
  experiments,
  ratesOf,
  tuning,
  tuningId,
} from "./experiments.ts";
import { type Latency, latencyOf } from "./latency.ts";
import { chosenVariant, variantExperiments, variantTuning } from "./near.ts";
import { drawAll } from "./pictures.ts";
import { type Result, resultOf } from "./result.ts";
import { tables } from "./tables.ts";

const root = join(import.meta.dirname, "../..");
const RUNS = join(root, "out/study");
const BASE = join(import.meta.dirname, "base");
const DOCS = join(root, "docs/study");
const RESULTS = join(DOCS, "results.json");
/** Rates this close to the best, in nats, get more seeds before one is chosen. */
const NOISE: Readonly<Record<Domain, number>> = { near: 0.005, far: 0, small: 0.02 };
const MORE_SEEDS = [4, 5];

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

/** Losses on the text that is tuned on, of the seeds that were tried at a rate. */
function tuned(domain: Domain, arm: Arm, lr: number): number[] {
  return [0, ...MORE_SEEDS].flatMap(
    (seed) => results.get(tuningId(domain, arm, lr, seed))?.valid.after ?? [],
  );
}

/** The rate of the lowest mean loss on the text that is tuned on, of those that were tried with most seeds. */
const best: BestRate = (domain, arm) => {
  const rates = ratesOf(domain, arm);
  const losses = rates.map((lr) => tuned(domain, arm, lr));
  const most = Math.max(...losses.map(({ length }) => length));
  const sums = losses.map((seeds) =>
    seeds.length < most ? Number.POSITIVE_INFINITY : seeds.reduce((a, b) => a + b, 0),
  );
  return rates[sums.indexOf(Math.min(...sums))]!;
};

/** The rates that are within the noise of one seed of the best. */
function closeRates(domain: Domain, arm: Arm): readonly number[] {
  const loss = (lr: number) =>
    results.get(tuningId(domain, arm, lr))?.valid.after ?? Number.POSITIVE_INFINITY;
  const least = Math.min(...ratesOf(domain, arm).map(loss));
  return ratesOf(domain, arm).filter((lr) => loss(lr) < least + NOISE[domain]);
}

await runAll([...tuning(paths), ...variantTuning(paths)]);
const close = DOMAINS.flatMap((domain) =>
  ARMS.flatMap((arm) => closeRates(domain, arm).map((lr) => ({ domain, arm, lr }))),
);
for (const seed of MORE_SEEDS) {
  const ids = new Set(close.map(({ domain, arm, lr }) => tuningId(domain, arm, lr, seed)));
  await runAll(tuning(paths, seed).filter(({ id }) => ids.has(id)));
}
const chosen = { all: chosenVariant(results, "all"), mlp: chosenVariant(results, "mlp") };
await runAll([...variantExperiments(paths, chosen), ...experiments(paths, best)]);
const adapter = join(RUNS, "runs/main/near-lora-1/adapter");
if (values.latency || (!latency && existsSync(adapter))) {
  latency = await latencyOf(BASE, adapter, paths.novel.test);
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
