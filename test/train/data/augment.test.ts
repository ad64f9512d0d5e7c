// Augmentation and prefetching: what changes, what must not, and that a break changes nothing.
import { equal, is, not, ok } from "uvu/assert";
import {
  type Augmentation,
  AugmentedRows,
  type Example,
  ExampleSet,
  exampleMixing,
  PackedRows,
  PaddedRows,
  ShuffledRows,
  tokenDropout,
} from "../../../src/train/data/index.ts";
import { Prefetched } from "../../../src/train/prefetched.ts";
import type { Rows, TrainingRows } from "../../../src/train/rows.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests, throwsLike } from "../../gpu.ts";
import { tinyRun } from "../tiny_run.ts";

const T = 16;

/** Examples of 3 … 8 tokens, each token of one its number, so that rows show what is where. */
const set = new ExampleSet(
  Array.from({ length: 30 }, (_, i): Example => {
    const ids = new Int32Array(3 + (i % 6)).fill(i + 1);
    return { ids, labels: ids.map((id, k) => (k === 1 ? -100 : id)) };
  }),
);
const packed = new ShuffledRows(new PackedRows(set, T));
const padded = new ShuffledRows(new PaddedRows(set, T));
const plain = (rows: Rows) => [rows.ids, rows.targets, rows.starts ?? []].map((a) => [...a]);

gpuTest(
  "token dropout replaces ids alone, at its rate, evenly, and alike for a seed and step",
  () => {
    const unlike = { ...padded.rows(6, 0, 0), ids: new Int32Array(6 * T).fill(99) };
    const source = { length: T, fingerprint: "", rows: () => unlike };
    const rows = new AugmentedRows(source, tokenDropout(0.2, { below: 50 }));
    is(rows.length, T);
    const seen = new Int32Array(100);
    for (let step = 0; step < 200; step++) {
      const { ids, targets } = rows.rows(6, 3, step);
      equal(targets, unlike.targets);
      for (const id of ids) seen[id]! += 1;
    }
    const all = 200 * 6 * T;
    const replaced = all - seen[99]!;
    ok(Math.abs(replaced - 0.2 * all) < 4 * Math.sqrt(0.16 * all), `${replaced} of ${all}`);
    const each = replaced / 50;
    const chi = seen.subarray(0, 50).reduce((sum, n) => sum + (n - each) ** 2 / each, 0);
    ok(chi < 85.4, `chi-squared ${chi} of 49 degrees of freedom, exceeded once in a thousand`);
    is(
      seen.subarray(0, 50).reduce((a, b) => a + b),
      replaced,
    );
    equal(plain(rows.rows(6, 3, 7)), plain(rows.rows(6, 3, 7)));
    for (const other of [rows.rows(6, 4, 7), rows.rows(6, 3, 8)]) {
      not.equal(plain(other), plain(rows.rows(6, 3, 7)));
    }
    const masked = new AugmentedRows(padded, tokenDropout(0.5, { token: 0 })).rows(6, 3, 7);
    const before = padded.rows(6, 3, 7).ids;
    ok(masked.ids.every((id, i) => id === 0 || id === before[i]));
  },
);

/** The texts of a row: their tokens and targets, in order, and whether each begins anew. */
function textsOf({ ids, targets, starts }: Rows, row: number) {
  const texts: { ids: number[]; targets: number[]; begins: boolean }[] = [];
  for (let t = 0; t < T; t++) {
    const at = row * T + t;
    const isNew = t === 0 || ids[at] !== ids[at - 1];
    if (isNew) texts.push({ ids: [], targets: [], begins: starts![at] === t });
    texts.at(-1)!.ids.push(ids[at]!);
    texts.at(-1)!.targets.push(targets[at]!);
  }
  return texts;
}

gpuTest("example mixing keeps every text whole, in another order, some behind another", () => {
  const rows = new AugmentedRows(packed, exampleMixing(0.3));
  let [behind, all, moved] = [0, 0, 0];
  for (let step = 0; step < 60; step++) {
    const [before, after] = [packed.rows(4, 3, step), rows.rows(4, 3, step)];
    for (let row = 0; row < 4; row++) {
      const [was, now] = [textsOf(before, row), textsOf(after, row)];
      const sorted = (texts: typeof was) =>
        texts.map(({ ids, targets }) => JSON.stringify([ids, targets])).sort();
      equal(sorted(now), sorted(was));
      if (was.at(-1)!.ids[0] === 0) is(now.at(-1)!.ids[0], 0, "padding stays behind");
      if (was[0]!.ids[0] !== now[0]!.ids[0]) moved += 1;
      ok(now[0]!.begins);
      const later = now.slice(1).filter(({ ids }) => ids[0] !== 0);
      all += later.length;
      behind += later.filter(({ begins }) => !begins).length;
      let start = 0;
      after.starts!.subarray(row * T, row * T + T).forEach((s, t) => {
        if (s === t) start = t;
        is(s, start, "a token's text begins where the last one began");
      });
    }
  }
  const expected = 0.3 * all;
  ok(Math.abs(behind - expected) < 4 * Math.sqrt(0.3 * 0.7 * all), `${behind} of ${all}`);
  ok(moved > 60, "rows begin with another text");
  equal(plain(rows.rows(4, 3, 7)), plain(rows.rows(4, 3, 7)));
  not.equal(plain(rows.rows(4, 3, 7)), plain(rows.rows(4, 9, 7)));
  const whole = new AugmentedRows(packed, exampleMixing(1)).rows(4, 3, 0);
  const starts = textsOf(whole, 0).filter(({ ids, begins }) => ids[0] !== 0 && begins);
  is(starts.length, 1, "at 1 a row is one text");
});

gpuTest("augmentations apply in order, and each is part of the fingerprint", () => {
  const one: Augmentation = {
    fingerprint: "one more",
    apply: (rows) => ({ ...rows, ids: rows.ids.map((id) => id + 1) }),
  };
  const two: Augmentation = {
    fingerprint: "twice",
    apply: (rows) => ({ ...rows, ids: rows.ids.map((id) => 2 * id) }),
  };
  const ids = padded.rows(2, 1, 0).ids;
  equal(
    new AugmentedRows(padded, one, two).rows(2, 1, 0).ids,
    ids.map((id) => 2 * (id + 1)),
  );
  const lists: Augmentation[][] = [
    [],
    [one, two],
    [two, one],
    [tokenDropout(0.1, { below: 9 })],
    [tokenDropout(0.2, { below: 9 })],
    [tokenDropout(0.1, { token: 9 })],
    [exampleMixing(0.1)],
    [exampleMixing(0.2)],
  ];
  const prints = lists.map((list) => new AugmentedRows(packed, ...list).fingerprint);
  is(new Set(prints).size, lists.length);
});

gpuTest("augmentations refuse what they cannot do", () => {
  const refused = (make: () => unknown, part: string) => throwsLike(make, "ValueError", part);
  refused(() => tokenDropout(0, { token: 1 }), "tokenDropout: p must be between 0 and 1, got 0");
  refused(
    () => tokenDropout(0.5, { token: -1 }),
    "by.token must be a non-negative integer, got -1",
  );
  refused(() => tokenDropout(0.5, { below: 0 }), "by.below must be a positive integer, got 0");
  refused(() => exampleMixing(1.5), "exampleMixing: p must be between 0 and 1, got 1.5");
  const mixed = new AugmentedRows(padded, exampleMixing(0.5));
  refused(() => mixed.rows(2, 0, 0), "rows must be packed, several texts in a row, got one text");
});

/** Rows that note which steps they were asked for. */
class Noted implements TrainingRows {
  readonly length = 11;
  readonly fingerprint = "noted";
  readonly asked: number[] = [];

  constructor(private readonly failing = Infinity) {}

  rows(count: number, seed: number, step: number): Rows {
    this.asked.push(step);
    if (step >= this.failing) throw new Error(`no step ${step}`);
    const ids = Int32Array.from({ length: 11 * count }, (_, i) => (i * i + seed + step) % 60);
    return { ids, targets: ids.map((id) => (id + 1) % 60) };
  }
}

gpuTest("each step's rows are made once, one step ahead, and none behind the end", async () => {
  const rows = new Noted();
  const seen: [number, number][] = [];
  const onStep = ({ step }: { step: number }) => seen.push([step, rows.asked.length]);
  await inFolder((folder) => tinyRun(folder, { train: rows, steps: 4, onStep }));
  equal(rows.asked, [0, 1, 2, 3]);
  equal(seen, [
    [1, 2],
    [2, 3],
    [3, 4],
    [4, 4],
  ]);
});

gpuTest("what making rows throws comes when their turn has come", async () => {
  const rows = new Noted(2);
  const seen: number[] = [];
  const onStep = ({ step }: { step: number }) => seen.push(step);
  const error = await inFolder((folder) =>
    tinyRun(folder, { train: rows, steps: 4, onStep }).catch((e: Error) => e),
  );
  is((error as Error).message, "no step 2");
  equal(seen, [1, 2]);
});

gpuTest("rows of a step that was not prepared are made then", () => {
  const rows = new Prefetched(packed, 3, 5, 10);
  rows.prepare(4);
  equal(plain(rows.of(2)), plain(packed.rows(3, 5, 2)));
  equal(plain(rows.of(4)), plain(packed.rows(3, 5, 4)));
});

gpuTest("T2 a run with augmented rows goes on with the same bits", async () => {
  const train = new AugmentedRows(packed, exampleMixing(0.3), tokenDropout(0.2, { below: 60 }));
  await inFolder(async (folder) => {
    const whole = await tinyRun(`${folder}/whole`, { train });
    await tinyRun(`${folder}/parts`, { train, limits: { steps: 5 } });
    const parts = await tinyRun(`${folder}/parts`, { train, random: 9 });
    equal(parts.weights, whole.weights);
    equal(parts.result.losses, whole.result.losses);
    not.equal((await tinyRun(`${folder}/other`, { train: packed })).weights, whole.weights);
  });
});

runTests();
