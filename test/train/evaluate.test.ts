// evaluate and scoreRows: each target once, whatever row it is in; looks of fit at several held-out sets.
import { equal, is, match, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { addLora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { ExampleSet, PackedRows, PaddedRows, ShuffledRows } from "../../src/train/data/index.ts";
import { evaluate, type RowScore, scoreRows } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import type { FitOptions, Look } from "../../src/train/fit_options.ts";
import type { RowSet } from "../../src/train/rows.ts";
import { Windows } from "../../src/train/windows.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, theGpu } from "../gpu.ts";

const T = 12;
const tokens = (n: number) => Int32Array.from({ length: n }, (_, i) => (i * i + 3 * i) % 60);

/** Examples of 2 … 13 tokens, of which some are not learnt. */
const examples = new ExampleSet(
  Array.from({ length: 23 }, (_, i) => {
    const ids = tokens(60).slice(i, i + 2 + ((i * 5) % T));
    return { ids, labels: ids.map((id, k) => (k < ids.length / 3 ? -100 : id)) };
  }),
);
const sets = {
  windows: new Windows(tokens(100), T),
  padded: new PaddedRows(examples, T),
  packed: new PackedRows(examples, T),
};

async function load(): Promise<CausalLM> {
  manualSeed(1);
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  addLora(model, {
    r: 2,
    lora_dropout: 0.5,
    init_lora_weights: false,
    target_modules: "all-linear",
  });
  return model;
}

/** The score of one row from its logits, in float64. */
async function reference(model: CausalLM, set: RowSet, row: number): Promise<RowScore> {
  const { ids, targets, starts } = set.row(row);
  const layout = starts ? { starts: tensor(starts, [1, T]) } : {};
  const logits = await noGrad(() => model.call(tensor(ids, [1, T]), undefined, layout)).data();
  const V = model.sizes.vocabSize;
  const score = { row, tokens: 0, loss: 0, right: 0 };
  targets.forEach((target, t) => {
    if (target === -100) return;
    const all = Array.from(logits.slice(t * V, (t + 1) * V));
    const top = Math.max(...all);
    score.tokens += 1;
    score.loss += top + Math.log(all.reduce((s, l) => s + Math.exp(l - top), 0)) - all[target]!;
    if (all.indexOf(top) === target) score.right += 1;
  });
  return score;
}

for (const [name, set] of Object.entries(sets)) {
  gpuTest(
    `T4 ${name}: every row once and in order, without dropout, as its logits say`,
    async () => {
      using model = await load();
      model.train();
      const scores: RowScore[] = [];
      for await (const score of scoreRows(model, set, { batch: 4 })) scores.push(score);
      is(model.training, true, "the mode is as before");
      model.eval();
      const expected: RowScore[] = [];
      for (let row = 0; row < set.count; row++) expected.push(await reference(model, set, row));
      const facts = ({ row, tokens, right }: RowScore) => [row, tokens, right];
      equal(scores.map(facts), expected.map(facts));
      close(
        scores.map(({ loss }) => loss),
        expected.map(({ loss }) => loss),
        1e-5,
        "losses",
      );
      const sum = (key: "tokens" | "loss" | "right") => scores.reduce((s, one) => s + one[key], 0);
      const all = await evaluate(model, set, { batch: 4 });
      equal(all, {
        loss: sum("loss") / sum("tokens"),
        accuracy: sum("right") / sum("tokens"),
        tokens: sum("tokens"),
      });
      const other = await evaluate(model, set, {
        batch: 7,
        logitBytes: 7 * 5 * 4 * model.sizes.vocabSize,
      });
      close([other.loss], [all.loss], 1e-6, "batches and the parts of logits change nothing");
      equal([other.accuracy, other.tokens], [all.accuracy, all.tokens]);
    },
  );
}

gpuTest("packed and padded rows of the same examples have the same loss and accuracy", async () => {
  using model = await load();
  const [packed, padded] = [await evaluate(model, sets.packed), await evaluate(model, sets.padded)];
  is(packed.tokens, padded.tokens);
  close([packed.loss], [padded.loss], 1e-5, "loss");
  const means = [];
  for await (const { loss, tokens } of scoreRows(model, sets.padded)) means.push(loss / tokens);
  const mean = means.reduce((a, b) => a + b) / means.length;
  ok(Math.abs(mean - packed.loss) > 1e-2, `the mean of the means is ${mean}, ${packed.loss}`);
});

gpuTest("`most` spreads rows over the set; what cannot be evaluated is refused", async () => {
  using model = await load();
  const rowsOf = async (most: number) => {
    const rows: number[] = [];
    for await (const { row } of scoreRows(model, sets.windows, { most })) rows.push(row);
    return rows;
  };
  equal([await rowsOf(3), await rowsOf(1)], [[0, 2, 5], [0]]);
  equal(await rowsOf(99), [0, 1, 2, 3, 4, 5, 6, 7]);
  const before = theGpu().stats().tensorsLive;
  const says = async (set: RowSet, options: object) => {
    const error = await evaluate(model, set, options).catch((reason: Error) => reason);
    return `${(error as Error).name} ${(error as Error).message}`;
  };
  const count = (arg: string) => `ValueError evaluate: ${arg} must be a positive integer, got 0`;
  for (const arg of ["batch", "most", "logitBytes"]) {
    match(await says(sets.windows, { [arg]: 0 }), count(arg));
  }
  const ids = tokens(5);
  const silent = new ExampleSet([{ ids, labels: ids.map(() => -100) }]);
  match(await says(new PaddedRows(silent, T), {}), "evaluate: rows must be with targets, got none");
  const { maxLength } = model.sizes;
  const long = new Windows(tokens(2 * maxLength), maxLength + 1);
  const context = `must be of at most ${maxLength} tokens, the model's context, got ${maxLength + 1}`;
  match(await says(long, {}), `ShapeError evaluate: rows ${context}`);
  const run = { train: sets.windows, steps: 1, batch: 1, lr: 1e-3 };
  const fits = async (change: Partial<FitOptions>) => {
    const error = await fit(model, { ...run, ...change }).catch((reason: Error) => reason);
    return `${(error as Error).name} ${(error as Error).message}`;
  };
  match(await fits({ train: long }), `ShapeError fit: train ${context}`);
  const rows = { target: sets.windows, general: long };
  match(await fits({ validate: { rows, every: 9 } }), `fit: validate.rows, general ${context}`);
  match(
    await fits({ validate: { rows: {}, every: 9 } }),
    "fit: validate.rows must be at least one",
  );
  is(theGpu().stats().tensorsLive, before);
});

gpuTest(
  "T3 several sets are looked at together, and the first says which look is best",
  async () => {
    const run = async (rows: FitOptions["validate"] & object) => {
      using model = await load();
      const told: Look[] = [];
      const { valid, best, stopped, losses } = await fit(model, {
        train: new ShuffledRows(sets.packed),
        steps: 30,
        batch: 3,
        lr: 3e-2,
        schedule: "constant",
        validate: rows,
        onLook: (look) => told.push(look),
      });
      equal(told, valid);
      return { valid, best, stopped, steps: losses.length };
    };
    const looking = { every: 2, most: 5, patience: 2 };
    const other = Int32Array.from({ length: 120 }, (_, i) => (7 * i + (i % 5)) % 60);
    const rows = { target: sets.packed, general: new Windows(other, T) };
    const both = await run({ ...looking, rows });
    const names = both.valid.map(({ set }) => set);
    equal(
      names,
      names.map((_, i) => (i % 2 === 0 ? "target" : "general")),
    );
    is(both.best!.set, "target");
    const alone = await run({ ...looking, rows: sets.packed });
    equal(
      alone.valid.map(({ loss }) => loss),
      both.valid.filter(({ set }) => set === "target").map(({ loss }) => loss),
    );
    equal([alone.best!.set, alone.steps, alone.stopped], ["valid", both.steps, both.stopped]);
    const { general, target } = rows;
    const turned = await run({ ...looking, rows: { general, target } });
    is(turned.best!.set, "general");
    const lowest = (name: string, valid: Look[]) =>
      Math.min(...valid.filter(({ set }) => set === name).map(({ loss }) => loss));
    is(turned.best!.loss, lowest("general", turned.valid));
    is(both.best!.loss, lowest("target", both.valid));
  },
);

runTests();
