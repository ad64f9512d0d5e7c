// Batches of examples: orders, packing, bucketing and mixing, each a pure function of seed and step.
import { equal, is, not, ok } from "uvu/assert";
import { noGrad } from "../../../src/autograd/graph.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { tensor } from "../../../src/tensor/create.ts";
import {
  BucketedBatches,
  BucketedRows,
  type Example,
  ExampleSet,
  PackedRows,
  PaddedRows,
  permuted,
  type RowSet,
  ShuffledRows,
} from "../../../src/train/data/index.ts";
import { fit } from "../../../src/train/fit.ts";
import type { TrainingRows } from "../../../src/train/rows.ts";
import { Windows } from "../../../src/train/windows.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { close, gpuTest, runTests, throwsLike } from "../../gpu.ts";

const T = 16;

/** Examples of 2 … 17 tokens: their number, then made-up ones, of which some are not learnt. */
function examples(n: number, first = 0): ExampleSet {
  const one = (i: number): Example => {
    const size = 2 + ((i * 7) % T);
    const ids = Int32Array.from({ length: size }, (_, k) =>
      k === 0 ? first + i : (i * 5 + k * k) % 60,
    );
    const labels = ids.map((id, k) => (k < size / 3 ? -100 : id));
    return { ids, labels };
  };
  return new ExampleSet(Array.from({ length: n }, (_, i) => one(i)));
}

gpuTest("an order holds each number once, and depends on seed, epoch and stream", () => {
  const order = (n: number, seed: number, epoch: number, stream = 0) =>
    Array.from({ length: n }, (_, i) => permuted(i, n, seed, epoch, stream));
  for (const n of [1, 2, 3, 5, 16, 17, 100, 1000]) {
    const all = Array.from({ length: n }, (_, i) => i);
    for (const epoch of [0, 1, 2 ** 33]) {
      equal(
        order(n, 7, epoch).sort((a, b) => a - b),
        all,
      );
    }
  }
  equal(order(50, 1, 2), order(50, 1, 2));
  for (const other of [order(50, 2, 2), order(50, 1, 3), order(50, 1, 2, 1)]) {
    not.equal(order(50, 1, 2), other);
  }
  throwsLike(() => permuted(3, 3, 0, 0), "ValueError", "permuted: i must be in [0, 3), got 3");
});

gpuTest("all orders of four are about equally frequent", () => {
  const seen = new Map<string, number>();
  const epochs = 4800;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = [0, 1, 2, 3].map((i) => permuted(i, 4, 11, epoch)).join("");
    seen.set(order, (seen.get(order) ?? 0) + 1);
  }
  is(seen.size, 24);
  let chi = 0;
  for (const n of seen.values()) chi += (n - epochs / 24) ** 2 / (epochs / 24);
  ok(chi < 49.7, `chi-squared ${chi} of 23 degrees of freedom, exceeded once in a thousand`);
});

gpuTest("packed rows hold each example once and whole; the last token of one has no target", () => {
  const set = examples(200);
  const rows = new PackedRows(set, T, 3);
  const seen: number[] = [];
  for (let r = 0; r < rows.count; r++) {
    const { ids, targets, starts } = rows.row(r);
    let at = 0;
    for (const example of rows.examplesOf(r)) {
      const { ids: own, labels } = set.at(example);
      const n = own.length - 1;
      equal([...ids.slice(at, at + n)], [...own.slice(0, n)]);
      equal([...targets.slice(at, at + n)], [...labels.slice(1)]);
      equal([...starts!.slice(at, at + n)], new Array(n).fill(at));
      at += n;
      seen.push(example);
    }
    ok(at <= T);
    ok(targets.slice(at).every((target) => target === -100));
    ok(starts!.slice(at).every((start) => start === at));
  }
  equal(
    seen.sort((a, b) => a - b),
    Array.from({ length: 200 }, (_, i) => i),
  );
  const places = set.tokens - set.count;
  ok(rows.count <= Math.ceil(places / T) + 1, `${rows.count} rows for ${places / T}`);
  close([rows.filled], [places / (rows.count * T)], 1e-12, "filled");
  equal(new PackedRows(set, T, 3).examplesOf(5), rows.examplesOf(5));
});

gpuTest(
  "packed batches: loss is that of the examples alone, weighted by their tokens",
  async () => {
    for (const name of ["gpt2-tiny", "llama-tiny"]) {
      using model = await fromPretrained(fixtureFolder(name));
      const set = examples(30);
      const rows = new PackedRows(set, T);
      const { ids, targets, starts } = new ShuffledRows(rows).batch(rows.count, 0, 0);
      const packed = await noGrad(() => model.loss(ids, targets, { starts: starts! })).item();
      let [sum, tokens] = [0, 0];
      for (let i = 0; i < set.count; i++) {
        const { ids, labels } = set.at(i);
        const n = labels.slice(1).filter((label) => label !== -100).length;
        const shape = [1, ids.length - 1];
        const own = [tensor(ids.slice(0, -1), shape), tensor(labels.slice(1), shape)] as const;
        sum += n * (await noGrad(() => model.loss(...own)).item());
        tokens += n;
      }
      close([packed], [sum / tokens], 1e-5, name);
      const padded = new ShuffledRows(new PaddedRows(set, T)).batch(set.count, 0, 0);
      is(padded.starts, undefined);
      const alone = await noGrad(() => model.loss(padded.ids, padded.targets)).item();
      close([alone], [sum / tokens], 1e-5, `${name}, padded`);
    }
  },
);

/** The first token of each row: the number of its example. */
const firsts = ({ ids }: { ids: Int32Array }, width = T) =>
  Array.from({ length: ids.length / width }, (_, row) => ids[row * width]!);

gpuTest("every row comes once an epoch, in another order each time, whatever the batch", () => {
  const set = new PaddedRows(examples(50), T);
  const rows = new ShuffledRows(set);
  const drawn = Array.from({ length: 25 }, (_, step) => firsts(rows.rows(8, 5, step))).flat();
  const epochs = [0, 1, 2, 3].map((e) => drawn.slice(50 * e, 50 * e + 50));
  const all = Array.from({ length: 50 }, (_, i) => i);
  for (const epoch of epochs) {
    equal(
      [...epoch].sort((a, b) => a - b),
      all,
    );
  }
  not.equal(epochs[0], epochs[1]);
  equal(new ShuffledRows(set).rows(8, 5, 19), rows.rows(8, 5, 19), "a step needs none before it");
  not.equal(rows.rows(8, 6, 19), rows.rows(8, 5, 19));
});

gpuTest("buckets: every example once an epoch, in batches as narrow as may be", () => {
  const set = examples(203);
  const options = { batch: 8, length: T, seed: 2, multiple: 4 };
  const batches = new BucketedBatches(set, options);
  is(batches.stepsPerEpoch, 26);
  let places = 0;
  for (const epoch of [0, 1]) {
    const seen: number[] = [];
    for (let s = 0; s < 26; s++) {
      const { ids, targets, width } = batches.host(26 * epoch + s);
      is(ids.length, 8 * width);
      is(width % 4, 0);
      places += 8 * width;
      for (let row = 0; row < 8; row++) {
        const own = targets.slice(row * width, (row + 1) * width);
        if (own.some((target) => target !== -100)) seen.push(ids[row * width]!);
      }
    }
    equal(
      seen.sort((a, b) => a - b),
      Array.from({ length: 203 }, (_, i) => i),
    );
  }
  ok(places < 0.75 * 2 * 26 * 8 * T, `${places} places`);
  not.equal(batches.host(0), batches.host(26), "epochs differ");
  const { ids, width } = batches.host(3);
  equal(batches.at(3).ids.shape, [8, width]);
  is(firsts({ ids }, width).length, 8);
  throwsLike(() => batches.at(-1), "ValueError", "step must be a non-negative integer, got -1");
  equal(
    new BucketedBatches(set, options).host(40),
    batches.host(40),
    "a step needs none before it",
  );
});

gpuTest("bucketed rows are the buckets of their seed and batch, in at most 16 widths", () => {
  const set = examples(203);
  const rows = new BucketedRows(set, T);
  const multiple = Math.ceil(T / 16);
  for (const [count, seed, step] of [
    [8, 2, 0],
    [8, 2, 40],
    [8, 3, 40],
    [6, 3, 1],
  ] as const) {
    const batches = new BucketedBatches(set, { batch: count, length: T, seed, multiple });
    equal(rows.rows(count, seed, step), batches.host(step));
  }
  const widths = Array.from({ length: 26 }, (_, step) => rows.rows(8, 2, step).width);
  ok(new Set(widths).size > 2 && new Set(widths).size <= 16, `${widths}`);
  not.equal(rows.fingerprint, new PaddedRows(set, T).fingerprint);
  not.equal(rows.fingerprint, new BucketedRows(examples(202), T).fingerprint);
});

for (const [share, batch] of [
  [0.25, 8],
  [0.1, 4],
  [0.3, 1],
] as const) {
  gpuTest(`replay: a share of ${share} in batches of ${batch}, both sets in whole epochs`, () => {
    const [own, general] = [new PackedRows(examples(40), T), text(20 * T + 5)];
    const replay = { rows: general, share };
    const mixed = new ShuffledRows(own, replay);
    const isGeneral = (row: Int32Array) => row.every((id) => id >= 1000);
    const seen = { own: [] as string[], general: [] as string[] };
    for (let step = 0; step < 500; step++) {
      const { ids, starts } = mixed.rows(batch, 1, step);
      for (let row = 0; row < batch; row++) {
        const one = ids.slice(row * T, (row + 1) * T);
        seen[isGeneral(one) ? "general" : "own"].push(one.join());
        if (isGeneral(one)) ok(starts!.slice(row * T, (row + 1) * T).every((start) => start === 0));
      }
      const due = share * batch * (step + 1);
      ok(Math.abs(seen.general.length - due) <= 1, `${seen.general.length} of ${due}`);
    }
    for (const [rows, drawn] of [
      [own, seen.own],
      [general, seen.general],
    ] as const) {
      for (let e = 0; (e + 1) * rows.count <= drawn.length; e++) {
        is(new Set(drawn.slice(e * rows.count, (e + 1) * rows.count)).size, rows.count);
      }
      ok(drawn.length > rows.count, "more than one epoch");
    }
    equal(new ShuffledRows(own, replay).rows(batch, 1, 321), mixed.rows(batch, 1, 321));
  });
}

/** Windows of a text whose tokens no example has. */
const text = (n: number) =>
  new Windows(
    Int32Array.from({ length: n }, (_, i) => 1000 + i),
    T,
  );

gpuTest("fingerprints tell data and packing apart; what does not fit is refused", async () => {
  const set = examples(20);
  const padded = new PaddedRows(set, T);
  const replay = { rows: text(100), share: 0.5 };
  const sets: RowSet[] = [
    padded,
    new PaddedRows(examples(19), T),
    new PackedRows(set, T),
    new PackedRows(set, T, 1),
    new PackedRows(set, T + 1),
    text(100),
    text(101),
  ];
  const all = sets.map((one) => new ShuffledRows(one));
  for (const share of [0.5, 0.4]) all.push(new ShuffledRows(padded, { ...replay, share }));
  const prints = all.map((rows) => rows.fingerprint);
  is(new Set(prints).size, all.length);
  is(new ShuffledRows(new PaddedRows(examples(20), T)).fingerprint, prints[0]);
  const refused = (make: () => unknown, part: string) => throwsLike(make, "ValueError", part);
  refused(() => new PackedRows(set, 10), "examples must be of at most 11 tokens, got one of");
  refused(() => new PaddedRows(new ExampleSet(), T), "examples must be at least one, got none");
  refused(() => all[0]!.rows(0, 0, 0), "count must be a positive integer");
  refused(() => all[0]!.rows(1, 0, 0.5), "step must be a non-negative integer, got 0.5");
  const bad = { ...replay, share: 1 };
  refused(() => new ShuffledRows(padded, bad), "replay.share must be between 0 and 1, got 1");
  const wide = { rows: new PaddedRows(set, T + 1), share: 0.5 };
  refused(() => new ShuffledRows(padded, wide), "replay.rows must be of 16 tokens");
  refused(() => new BucketedBatches(set, { batch: 2, length: T, multiple: 0 }), "multiple must be");
  throwsLike(() => set.at(20), "ValueError", "ExampleSet: i must be an integer in [0, 19], got 20");
});

gpuTest("fit trains on packed rows, replayed as eagerly, in micro-batches as at once", async () => {
  const rows = new ShuffledRows(new PackedRows(examples(40), T));
  const run = async (options: { batch: number; accumulate?: number; capture?: boolean }) => {
    using model = await fromPretrained(fixtureFolder("llama-tiny"));
    model.requiresGrad(true);
    const { losses } = await fit(model, { train: rows, steps: 5, lr: 1e-2, seed: 4, ...options });
    return losses;
  };
  const losses = await run({ batch: 4 });
  equal(await run({ batch: 4, capture: false }), losses);
  close(await run({ batch: 2, accumulate: 2 }), losses, 1e-4, "micro-batches");
  using model = await fromPretrained(fixtureFolder("llama-tiny"));
  const { ids, targets, starts } = rows.batch(4, 4, 0);
  const first = await noGrad(() => model.loss(ids, targets, { starts: starts! })).item();
  close([losses[0]!], [first], 1e-6, "the first loss");
  let step = 0;
  const wavering: TrainingRows = {
    length: T,
    fingerprint: "",
    rows: (...args) => {
      const { ids, targets, starts } = rows.rows(...args);
      return step++ === 0 ? { ids, targets, starts: starts! } : { ids, targets };
    },
  };
  const error = await fit(model, { train: wavering, steps: 3, lr: 1e-3, batch: 2 }).catch((e) => e);
  is(error.message, "fit: starts must be given in every step or in none, got none.");
});

runTests();
