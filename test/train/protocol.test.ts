// A seeded protocol on two made-up languages, of which the entropy is known: a tiny base learns the first, adapters and
// full fine-tuning the second.
import { ok } from "uvu/assert";
import { addLora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { manualSeed, philox4x32 } from "../../src/tensor/philox.ts";
import { ShuffledRows } from "../../src/train/data/shuffled_rows.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import { gpuTest, runTests } from "../gpu.ts";

const [VOCABULARY, LENGTH, FREE, CHANGED] = [24, 32, 0.15, 8];

/** A stream of numbers in [0, 1). */
function numbers(seed: number): () => number {
  let i = 0;
  return () => philox4x32([i++, 0, 0, 0], [seed, 7])[0]! / 2 ** 32;
}

/** What follows each token, by whether the one before it is even. */
function rules(seed: number): number[] {
  const draw = numbers(seed);
  return Array.from({ length: 2 * VOCABULARY }, () => Math.floor(draw() * VOCABULARY));
}

/** A text in which a rule gives the next token, but now and then chance. The first `changed` tokens have other rules. */
function text(changed: number, length: number, seed: number): Windows {
  const [own, other] = [rules(1), rules(2)];
  const draw = numbers(seed);
  const tokens = [0, 1];
  while (tokens.length < length) {
    const [before, last] = tokens.slice(-2) as [number, number];
    const isFree = draw() < FREE;
    const next = (last < changed ? other : own)[2 * last + (before % 2)]!;
    tokens.push(isFree ? Math.floor(draw() * VOCABULARY) : next);
  }
  return new Windows(Int32Array.from(tokens), LENGTH);
}

/** Nats per token of both languages: no model can do better. */
const ENTROPY = (() => {
  const other = FREE / VOCABULARY;
  const ruled = 1 - FREE + other;
  return -ruled * Math.log(ruled) - (VOCABULARY - 1) * other * Math.log(other);
})();

const known = { train: text(0, 8000, 10), held: text(0, 1500, 11) };
const target = { train: text(CHANGED, 8000, 20), held: text(CHANGED, 1500, 21) };

const emptyModel = () =>
  new LlamaForCausalLM({
    ...{ vocab_size: VOCABULARY, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2 },
    ...{ num_attention_heads: 2, max_position_embeddings: LENGTH },
  });

interface Losses {
  known: number;
  target: number;
}

async function lossesOf(model: CausalLM): Promise<Losses> {
  const of = async (rows: Windows) => (await evaluate(model, rows, { batch: 46, most: 46 })).loss;
  return { known: await of(known.held), target: await of(target.held) };
}

/** The base's weights and losses; it is trained once. */
const base = (() => {
  let made: Promise<{ weights: Map<string, Uint8Array<ArrayBuffer>>; losses: Losses }> | null =
    null;
  return () => {
    made ??= (async () => {
      manualSeed(1);
      using model = emptyModel();
      await fit(model, { train: known.train, steps: 200, batch: 8, lr: 1e-2, warmup: 10 });
      const weights = new Map<string, Uint8Array<ArrayBuffer>>();
      for (const [name, p] of model.namedParameters()) weights.set(name, await p.rawBytes());
      return { weights, losses: await lossesOf(model) };
    })();
    return made;
  };
})();

const runs = new Map<string, Promise<Losses>>();

/** Losses after sixty steps on the target; equal calls are one run. */
function after(arm: "lora" | "full", lr: number, seed = 1, replay = 0): Promise<Losses> {
  const key = `${arm} ${lr} ${seed} ${replay}`;
  const run = runs.get(key) ?? trained(arm, lr, seed, replay);
  runs.set(key, run);
  return run;
}

async function trained(arm: "lora" | "full", lr: number, seed: number, replay: number) {
  const { weights } = await base();
  using model = emptyModel();
  for (const [name, p] of model.namedParameters()) p.upload(weights.get(name)!);
  manualSeed(seed);
  if (arm === "lora") addLora(model, { r: 4, lora_alpha: 4, target_modules: "all-linear" });
  const mixed = replay > 0 ? { rows: known.train, share: replay } : null;
  const train = new ShuffledRows(target.train, mixed);
  await fit(model, { train, steps: 60, batch: 4, lr, warmup: 5, seed });
  return await lossesOf(model); // before the model is freed
}

const LORA_RATE = 0.0316;

gpuTest("T7 the best rate of an adapter is 3 to 30 times that of full fine-tuning", async () => {
  const best = async (arm: "lora" | "full", rates: readonly number[]) => {
    const seen: { lr: number; loss: number }[] = [];
    for (const lr of rates) seen.push({ lr, loss: (await after(arm, lr)).target });
    const lowest = seen.reduce((a, b) => (b.loss < a.loss ? b : a));
    const facts = JSON.stringify(seen);
    ok(lowest !== seen[0] && lowest !== seen.at(-1), `${arm}: inside the grid, ${facts}`);
    return lowest.lr;
  };
  const lora = await best("lora", [0.01, LORA_RATE, 0.1]);
  const full = await best("full", [0.00316, 0.01, 0.0316]);
  const ratio = lora / full;
  ok(ratio >= 3 && ratio <= 30, `${lora} / ${full}`);
});

gpuTest(
  "T8 a quarter of replay takes at least half off what is forgotten, for little",
  async () => {
    const { losses } = await base();
    const plain = await after("lora", LORA_RATE);
    const replayed = await after("lora", LORA_RATE, 1, 0.25);
    const forgot = (now: Losses) => now.known - losses.known;
    const learnt = (now: Losses) => losses.target - now.target;
    const facts = JSON.stringify({ losses, plain, replayed });
    ok(forgot(plain) > 0.5, facts);
    ok(forgot(replayed) <= forgot(plain) / 2, facts);
    ok(learnt(replayed) >= 0.9 * learnt(plain), facts);
  },
);

gpuTest("T9 an adapter closes three quarters of what the base lacks, on 3 of 3 seeds", async () => {
  const { losses } = await base();
  ok(losses.known < ENTROPY + 0.2, `the base knows its language: ${losses.known}, ${ENTROPY}`);
  for (const seed of [1, 2, 3]) {
    const now = await after("lora", LORA_RATE, seed);
    const share = (losses.target - now.target) / (losses.target - ENTROPY);
    ok(now.target > ENTROPY - 0.05 && share >= 0.75, `seed ${seed}: ${now.target}, ${share}`);
  }
});

runTests();
