// Searches without a GPU: which trials they ask for, and whether they find what they look for.
import { test } from "uvu";
import { equal, is, not, ok } from "uvu/assert";
import { Asha } from "../../../src/train/sweep/asha.ts";
import { Draws } from "../../../src/train/sweep/draws.ts";
import { gridSettings, oneAtATime, randomSearch } from "../../../src/train/sweep/listed.ts";
import { densityOf } from "../../../src/train/sweep/parzen.ts";
import { SEARCHES, searchOf } from "../../../src/train/sweep/searches.ts";
import { type Dimension, holds, readSpace } from "../../../src/train/sweep/space.ts";
import { Tpe } from "../../../src/train/sweep/tpe.ts";
import { throwsLike } from "../../gpu.ts";
import { bowl, cliff, lowest, play, space } from "./surface.ts";

for (const [name, surface] of Object.entries({ bowl, cliff })) {
  test(`T11 ${name}: TPE beats random search at 40 trials, over 40 seeds`, () => {
    let [tpe, random, better] = [0, 0, 0];
    for (let seed = 0; seed < 40; seed++) {
      const options = { trials: 40, seed };
      const a = lowest(play(new Tpe(space, options), surface));
      const b = lowest(play(randomSearch(space, options), surface));
      tpe += a;
      random += b;
      better += Number(a < b);
    }
    ok(tpe < random, `mean ${tpe / 40} against ${random / 40}`);
    ok(better >= 28, `better on ${better} of 40 seeds`);
  });
}

test("TPE: trials that are asked for at once lie apart", () => {
  const line: Dimension = { kind: "uniform", low: 0, high: 1, points: 5 };
  let spread = 0;
  for (let seed = 0; seed < 40; seed++) {
    const tpe = new Tpe(new Map([["x", line]]), { trials: 16, startup: 8, round: 8, seed });
    const trace = play(tpe, ({ x }) => Math.abs((x as number) - 0.5), 8);
    const places = trace.slice(8).map(({ settings }) => settings.x as number);
    spread += (Math.max(...places) - Math.min(...places)) / 40;
  }
  ok(spread > 0.4, `${spread}; 0.08 where they do not know of each other`);
});

for (const search of SEARCHES) {
  test(`T11 ${search}: the same seed gives the same trials; trials lie in the space`, () => {
    const run = (seed: number) =>
      play(searchOf(space, { search, trials: 14, seed, steps: 90, round: 4 }), bowl, 4);
    const trace = run(3);
    equal(run(3), trace);
    for (const { settings } of trace) {
      for (const [path, dimension] of space) ok(holds(dimension, settings[path]), path);
    }
    const isDrawn = search !== "grid" && search !== "one-at-a-time";
    is(JSON.stringify(run(4)) !== JSON.stringify(trace), isDrawn);
  });
}

test("a trial's settings do not depend on how many trials there are", () => {
  const few = randomSearch(space, { trials: 5, seed: 1 }).list;
  equal(randomSearch(space, { trials: 9, seed: 1 }).list.slice(0, 5), few);
});

test("a grid is every combination, in the order of the declaration", () => {
  const small = readSpace({
    "lora.r": [4, 8],
    "training.lr": { log_uniform: [1e-4, 1e-2], points: 3 },
  });
  const got = gridSettings(small).map((s) => [s["lora.r"], s["training.lr"]]);
  equal(got, [
    [4, 1e-4],
    [4, 1e-3],
    [4, 1e-2],
    [8, 1e-4],
    [8, 1e-3],
    [8, 1e-2],
  ]);
});

test("one at a time changes one setting from where the config begins", () => {
  const small = readSpace({ "lora.r": [4, 8, 16], "lora.lora_dropout": [0, 0.1], seed: [1, 2] });
  const start = { "lora.r": 8, "lora.lora_dropout": 0.05 };
  equal(oneAtATime(small, start), [
    { "lora.r": 8, "lora.lora_dropout": 0.05, seed: 1 },
    { "lora.r": 4, "lora.lora_dropout": 0.05, seed: 1 },
    { "lora.r": 16, "lora.lora_dropout": 0.05, seed: 1 },
    { "lora.r": 8, "lora.lora_dropout": 0, seed: 1 },
    { "lora.r": 8, "lora.lora_dropout": 0.1, seed: 1 },
    { "lora.r": 8, "lora.lora_dropout": 0.05, seed: 2 },
  ]);
});

test("random, asha and tpe try the config's own settings first, where the space holds them", () => {
  const own = {
    "lora.r": 16,
    "training.lr": 2e-4,
    "lora.lora_dropout": 0,
    "lora.target_modules": "all-linear",
  };
  for (const search of ["random", "asha", "tpe"] as const) {
    const first = (start: typeof own) => searchOf(space, { search, steps: 9, start }).ask(1)[0]!;
    equal(first({ ...own, "training.batch": 4 } as typeof own).settings, own);
    not.equal(first({ ...own, "lora.r": 100 }).settings, { ...own, "lora.r": 100 });
  }
});

test("integers are drawn evenly, both bounds included; logarithmic ones evenly in their logarithm", () => {
  const counts = (declared: object) => {
    const [dimension] = [...readSpace({ x: declared }).values()] as [Dimension];
    const found = new Map<number, number>();
    for (const { settings } of play(
      randomSearch(new Map([["x", dimension]]), { trials: 4000, seed: 2 }),
      () => 0,
    )) {
      found.set(settings.x as number, (found.get(settings.x as number) ?? 0) + 1);
    }
    return found;
  };
  const even = counts({ integer: [3, 6] });
  equal([...even.keys()].sort(), [3, 4, 5, 6]);
  for (const n of even.values()) ok(Math.abs(n - 1000) < 110, `${n}`); // four standard deviations
  const log = counts({ log_integer: [1, 4] }); // axis from ln 0.5 to ln 4.5, bounds at 1.5, 2.5, 3.5
  const share = (n: number) => Math.log((n + 0.5) / (n - 0.5)) / Math.log(9);
  for (const [n, count] of log) ok(Math.abs(count - 4000 * share(n)) < 130, `${n}: ${count}`);
});

test("the draws of trials: in [0, 1), normal ones with mean 0 and variance 1", () => {
  const draws = new Draws(1, 2);
  const xs = Array.from({ length: 4000 }, () => draws.normal());
  const mean = xs.reduce((a, b) => a + b) / 4000;
  const variance = xs.reduce((a, b) => a + b * b) / 4000;
  ok(Math.abs(mean) < 0.06 && Math.abs(variance - 1) < 0.09, `${mean} ${variance}`);
  const [a, b] = [new Draws(1, 2), new Draws(1, 3)];
  const us = [a.uniform(), a.uniform(), b.uniform()];
  ok(us.every((u) => u >= 0 && u < 1) && new Set(us).size === 3);
});

test("densities of TPE integrate to 1, of ranges and of integers, and draw from their own bounds", () => {
  const dimensions = readSpace({
    a: { uniform: [2, 5] },
    b: { log_uniform: [1e-4, 1e-1] },
    c: { log_integer: [1, 32] },
    d: ["x", "y", "z"],
  });
  const total = (
    path: string,
    values: number[],
    points: number[],
    weight: (x: number) => number,
  ) => {
    const density = densityOf(dimensions.get(path)!, values);
    return points.reduce((sum, x) => sum + Math.exp(density.logAt(x)) * weight(x), 0);
  };
  const steps = Array.from({ length: 3000 }, (_, i) => (i + 0.5) / 3000);
  const a = total(
    "a",
    [2, 2.2, 4],
    steps.map((u) => 2 + 3 * u),
    () => 3 / 3000,
  );
  const width = Math.log(1e3);
  const b = total(
    "b",
    [1e-3, 1e-3],
    steps.map((u) => 1e-4 * Math.exp(u * width)),
    () => width / 3000,
  );
  const c = total(
    "c",
    [1, 8, 9],
    Array.from({ length: 32 }, (_, i) => i + 1),
    () => 1,
  );
  for (const [name, sum] of Object.entries({ a, b, c }))
    ok(Math.abs(sum - 1) < 1e-3, `${name} ${sum}`);
  const d = densityOf(dimensions.get("d")!, ["y", "y"]);
  equal(
    ["x", "y", "z"].map((v) => Math.exp(d.logAt(v)).toFixed(3)),
    ["0.200", "0.600", "0.200"],
  );
  const draws = new Draws(0, 0);
  for (const [path, dimension] of dimensions) {
    const density = densityOf(
      dimension,
      path === "d" ? ["x"] : [4e-3, 4].slice(path === "b" ? 0 : 1, path === "b" ? 1 : 2),
    );
    for (let i = 0; i < 200; i++) ok(holds(dimension, density.draw(draws)), path);
  }
});

test("TPE asks for a round at once, and waits for what it is to learn from", () => {
  const tpe = new Tpe(space, { trials: 12, startup: 4, round: 3, seed: 1 });
  const first = tpe.ask(99);
  equal(
    first.map(({ trial }) => trial),
    [0, 1, 2, 3],
  );
  for (const { trial, settings } of first.slice(1)) {
    equal(tpe.ask(99), [], "trial 0 is still missing");
    tpe.tell({ trial, steps: null, objective: bowl(settings) });
  }
  tpe.tell({ trial: 0, steps: null, objective: Number.NaN });
  equal(
    tpe.ask(2).map(({ trial }) => trial),
    [4, 5],
  );
  equal(
    tpe.ask(99).map(({ trial }) => trial),
    [6],
    "the round of three",
  );
});

test("ASHA: halves, promotes the best, goes on with paused trials, and ends with a whole one", () => {
  const asha = new Asha(space, { trials: 9, steps: 90, minSteps: 10, eta: 3, seed: 5 });
  const trace = play(asha, bowl);
  const at = (steps: number) => trace.filter((t) => t.steps === steps);
  equal([at(10).length, at(30).length, at(90).length], [9, 3, 1]);
  const best = lowest(trace);
  is(at(90)[0]!.objective, best, "the best of nine is whole");
  const work = at(10).length * 10 + at(30).length * 20 + at(90).length * 60;
  ok(work < (9 * 90) / 3, "for less than a third of the steps of nine whole trials");
  const promotedOnes = new Set(at(30).map(({ trial }) => trial));
  const worst = at(10).reduce((a, b) => (a.objective > b.objective ? a : b));
  ok(!promotedOnes.has(worst.trial));
});

test("ASHA: failed trials are never promoted, and a sweep of failures ends", () => {
  const options = { trials: 6, steps: 20, minSteps: 5, eta: 2 };
  const failing = play(new Asha(space, options), () => Number.NaN);
  equal(
    failing.map(({ steps }) => steps),
    [5, 5, 5, 5, 5, 5],
  );
  const asha = new Asha(space, options);
  const half = play(asha, (s) => ((s["training.lr"] as number) > 1e-3 ? Infinity : bowl(s)));
  for (const { steps, settings } of half) {
    if (steps! > 5) ok((settings["training.lr"] as number) <= 1e-3);
  }
});

test("ASHA: while trials run, others may begin; nobody waits for a whole rung", () => {
  const asha = new Asha(space, { trials: 6, steps: 8, minSteps: 4, eta: 2 });
  equal(
    asha.ask(4).map(({ trial }) => trial),
    [0, 1, 2, 3],
  );
  asha.tell({ trial: 2, steps: 4, objective: 1 });
  asha.tell({ trial: 1, steps: 4, objective: 2 });
  const next = asha.ask(2);
  equal(
    next.map(({ trial, steps }) => [trial, steps]),
    [
      [2, 8],
      [4, 4],
    ],
  );
});

const refusals: [unknown, string][] = [
  [{}, "sweep: space must be settings by their paths, got {}. For instance {"],
  [[1], "sweep: space must be settings by their paths, got [1]. For instance {"],
  [
    { "lora.rank": [1] },
    "sweep: lora.rank must be a setting of a run, got an unknown one. Did you mean lora.r?",
  ],
  [{ "lora.r": 4 }, "sweep: lora.r must be a list of values or a range, got 4."],
  [{ "lora.r": [] }, "sweep: lora.r must be a list of values, got []."],
  [{ "lora.r": [4, 8, 4] }, "sweep: lora.r must be a list of different values, got 4 twice."],
  [{ "lora.r": { loguniform: [1, 2] } }, "got loguniform. Did you mean log_uniform?"],
  [
    { "lora.r": { points: 2 } },
    "sweep: lora.r must be a range or a choice, and one only, got neither.",
  ],
  [{ "lora.r": { choice: [1], integer: [1, 2] } }, "got choice and integer."],
  [
    { "lora.r": { integer: [1, 2.5] } },
    "sweep: lora.r must be a range between integers, got [1,2.5].",
  ],
  [{ "lora.r": { integer: [1] } }, "sweep: lora.r must be integer: [low, high], got [1]."],
  [{ "lora.r": { uniform: [2, 1] } }, "must be a range whose low is below its high, got [2,1]."],
  [
    { "lora.r": { log_uniform: [0, 1] } },
    "must be a range above 0, for it is logarithmic, got [0,1].",
  ],
  [
    { "lora.r": { uniform: [0, 1], points: 0 } },
    "sweep: lora.r.points must be a positive integer, got 0.",
  ],
];

test("a space that is none is refused with its path and the nearest name", () => {
  for (const [declared, message] of refusals) {
    throwsLike(() => readSpace(declared, ["lora.r", "training.lr"]), "ValueError", message);
  }
});

test("counts out of range and unknown searches are refused", () => {
  const asked = (options: object) => () => searchOf(space, options as never);
  throwsLike(asked({ search: "bayes" }), "ValueError", "sweep: search must be", 'got "bayes"');
  throwsLike(
    asked({ search: "random", trials: 0 }),
    "ValueError",
    "sweep: trials must be an integer of at least 1, got 0.",
  );
  throwsLike(asked({ search: "random", seed: -1 }), "ValueError", "sweep: seed must be");
  throwsLike(
    asked({ search: "asha" }),
    "ValueError",
    "sweep: steps must be an integer of at least 1, got 0.",
  );
  throwsLike(
    asked({ search: "asha", steps: 9, eta: 1 }),
    "ValueError",
    "sweep: eta must be an integer of at least 2, got 1.",
  );
});

test.run();
