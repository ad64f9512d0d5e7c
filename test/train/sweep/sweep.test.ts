// The sweep itself, with trials that are formulas: what is written, what fails, and how it goes on.
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { DeviceError, DiskError } from "../../../src/gpu/errors.ts";
import { lastLines, overSeeds, ranking } from "../../../src/train/sweep/ranking.ts";
import { SEARCHES } from "../../../src/train/sweep/searches.ts";
import { openTasks, type SweepOptions, sweep, type Task } from "../../../src/train/sweep/sweep.ts";
import { type TrialLine, TrialsFile } from "../../../src/train/sweep/trials_file.ts";
import { refusedLater } from "./refused_later.ts";
import { bowl } from "./surface.ts";

const folders: string[] = [];
function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-sweep-"));
  folders.push(folder);
  return folder;
}
test.after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

const space = {
  "lora.r": { log_integer: [1, 64], points: 3 },
  "training.lr": { log_uniform: [1e-5, 1e-1], points: 2 },
  "lora.lora_dropout": [0, 0.1],
  "lora.target_modules": ["all-linear", ["q_proj", "v_proj"]],
};

/** A trial that ends at once. */
function resultOf({ settings, steps }: Task) {
  const validLoss = bowl(settings) + (steps === null ? 0 : 1 / steps);
  return { validLoss, forgetting: 0.5, steps: steps ?? 90, seconds: 1, stopped: "steps" };
}

function optionsOf(folder: string, change: Partial<SweepOptions> = {}): SweepOptions {
  const search = { search: "random", trials: 6, seed: 1 } as const;
  return { folder, space, search, run: async (tasks) => tasks.map(resultOf), ...change };
}

const linesIn = (folder: string) => readFileSync(join(folder, "trials.jsonl"), "utf8");

test("one line for each trial; the best is the lowest loss plus weighted forgetting", async () => {
  const folder = newFolder();
  const seen: TrialLine[] = [];
  const run: SweepOptions["run"] = async (tasks) =>
    tasks.map((task) => ({ ...resultOf(task), forgetting: task.trial === 2 ? -9 : 4 }));
  const change = {
    run,
    forgettingWeight: 2,
    seed: 7,
    onTrial: (line: TrialLine) => seen.push(line),
  };
  const { lines, best, done } = await sweep(optionsOf(folder, change));
  equal(
    linesIn(folder)
      .trimEnd()
      .split("\n")
      .map((l) => JSON.parse(l)),
    lines,
  );
  equal(seen, lines);
  is(done, true);
  is(best!.trial, 2, "for it forgets least");
  for (const line of lines) {
    // Less than none counts nothing.
    const expected = bowl(line.settings) + 2 * (line.trial === 2 ? 0 : 4);
    equal([line.objective, line.seed, line.budget], [expected, 7, null]);
    is(line.folder, `trials/000${line.trial}`);
  }
  const facts = JSON.parse(readFileSync(join(folder, "sweep.json"), "utf8"));
  equal([facts.format, facts.space, facts.sweep.forgetting_weight], [1, space, 2]);
});

test("a trial that fails is written down with its error, and the sweep goes on", async () => {
  const run: SweepOptions["run"] = async (tasks) => {
    if (tasks[0]!.trial === 1) throw new Error("no memory");
    return tasks.map((task) =>
      task.trial === 3
        ? new Error("no such layer")
        : { ...resultOf(task), validLoss: task.trial === 4 ? Number.NaN : 3 },
    );
  };
  const { lines, best } = await sweep(optionsOf(newFolder(), { run }));
  equal(
    lines.map(({ trial, objective, stopped, error }) => [trial, objective, stopped, error]),
    [
      [0, 3, "steps", undefined],
      [1, null, "failed", "no memory"],
      [2, 3, "steps", undefined],
      [3, null, "failed", "no such layer"],
      [4, null, "steps", undefined],
      [5, 3, "steps", undefined],
    ],
  );
  is(best!.trial, 0);
  equal(
    ranking(lines).map(({ trial }) => trial),
    [0, 2, 5, 1, 3, 4],
  );
  const none = async (tasks: readonly Task[]) => tasks.map(() => new Error("no"));
  const failing = await sweep(optionsOf(newFolder(), { run: none }));
  is(failing.best, null);
});

for (const search of SEARCHES) {
  for (const sideBySide of [1, 3]) {
    test(`${search}, ${sideBySide} at once: broken off anywhere, it goes on as if it had not been`, async () => {
      const options = (folder: string, change: Partial<SweepOptions> = {}) =>
        optionsOf(folder, {
          search: { search, trials: 11, seed: 3, steps: 27, round: sideBySide },
          sideBySide,
          ...change,
        });
      const whole = await sweep(options(newFolder()));
      const count = whole.lines.length;
      for (const at of [1, 4, 5, count - 1]) {
        const folder = newFolder();
        const ran: number[] = [];
        // What a machine leaves that lost its power: whole lines, and one that was not written to its end.
        const kept = whole.lines.slice(0, at).map((line) => `${JSON.stringify(line)}\n`);
        writeFileSync(join(folder, "trials.jsonl"), kept.join(""));
        appendFileSync(join(folder, "trials.jsonl"), '{"trial":9,"settings":{"lor');
        const run: SweepOptions["run"] = async (tasks) => {
          ran.push(...tasks.map(({ trial }) => trial));
          return tasks.map(resultOf);
        };
        const rest = await sweep(options(folder, { run }));
        equal(rest.lines, whole.lines);
        is(ran.length, count - at, "finished ones are not run again");
        const again = await sweep(options(folder, { run: async () => [] }));
        equal(again.lines, whole.lines, "and a finished sweep does nothing");
      }
    });
  }
}

test("the loss of the device is no trial's failure: it ends the sweep, which goes on from there", async () => {
  const folder = newFolder();
  const facts = { op: "trainRun", arg: "the device", expected: "there", got: "its loss: gone" };
  const run: SweepOptions["run"] = async (tasks) =>
    tasks.map((task) => (task.trial < 2 ? resultOf(task) : new DeviceError(facts)));
  await refusedLater(() => sweep(optionsOf(folder, { run })), "DeviceError", "its loss: gone");
  const seen: [number, number][] = [];
  const onProgress = (done: number, of: number) => void seen.push([done, of]);
  const { lines } = await sweep(optionsOf(folder, { onProgress }));
  ok(lines.length === 6 && lines.every(({ stopped }) => stopped === "steps"));
  equal([seen[0], seen.at(-1)], [[2, 6], [6, 6]]); // biome-ignore format: one line
});

test("a full disk ends the sweep and is no trial's failure: it goes on when there is room", async () => {
  const folder = newFolder();
  const facts = { op: "files", arg: "last.safetensors", expected: "a file", got: "ENOSPC" };
  const run: SweepOptions["run"] = async (tasks) =>
    tasks.map((task) => (task.trial < 2 ? resultOf(task) : new DiskError(facts)));
  await refusedLater(() => sweep(optionsOf(folder, { run })), "DiskError", "ENOSPC");
  const { lines } = await sweep(optionsOf(folder));
  ok(lines.length === 6 && lines.every(({ stopped }) => stopped === "steps"));
});

test("Ctrl-C: a trial that was broken off is not written down; the next call goes on with it", async () => {
  const folder = newFolder();
  const controller = new AbortController();
  const run: SweepOptions["run"] = async (tasks) =>
    tasks.map((task) => {
      if (task.trial < 2) return resultOf(task);
      controller.abort();
      return { ...resultOf(task), stopped: "aborted" };
    });
  const first = await sweep(optionsOf(folder, { run, signal: controller.signal }));
  equal([first.lines.length, first.done], [2, false]);
  const ran: number[] = [];
  const going: SweepOptions["run"] = async (tasks) => {
    ran.push(...tasks.map(({ trial }) => trial));
    return tasks.map(resultOf);
  };
  const second = await sweep(optionsOf(folder, { run: going }));
  equal([second.lines.length, second.done, ran], [6, true, [2, 3, 4, 5]]);
});

test("side by side train only trials of one kind, and no more than were allowed", async () => {
  const groups: number[][] = [];
  const run: SweepOptions["run"] = async (tasks) => {
    groups.push(tasks.map(({ trial }) => trial));
    ok(new Set(tasks.map(({ settings }) => settings["training.batch"])).size === 1);
    return tasks.map(resultOf);
  };
  const kindOf: SweepOptions["kindOf"] = (settings) => `${settings["training.batch"]}`;
  const own = { "training.batch": [2, 4], "lora.r": [1, 2, 4], "training.lr": [1e-3] };
  const search = { search: "grid" } as const;
  await sweep(
    optionsOf(newFolder(), {
      run,
      kindOf,
      sideBySide: 4,
      search,
      space: { ...own, "lora.lora_dropout": [0], "lora.target_modules": ["all-linear"] },
    }),
  );
  equal(groups, [[0, 1, 2], [3], [4, 5]]);
});

test("a sweep can be given more trials, and refuses another space, search, seed or config", async () => {
  const folder = newFolder();
  const first = await sweep(optionsOf(folder, { identity: { config: { model: "a" } } }));
  const more = { search: "random", trials: 8, seed: 1 } as const;
  const own = { search: more, identity: { config: { model: "a" } } };
  const second = await sweep(optionsOf(folder, own));
  equal(second.lines.slice(0, 6), first.lines);
  is(second.lines.length, 8);
  const before = linesIn(folder);
  for (const [change, part] of [
    [
      { space: { ...space, "lora.r": [4] } },
      'of a sweep with space.lora.r [4], got space.lora.r {"log_integer":[1,64],"points":3}.',
    ],
    [{ search: { ...more, seed: 2 } }, "of a sweep with sweep.seed 2, got sweep.seed 1."],
    [
      { identity: { config: { model: "b" } } },
      'of a sweep with config.model "b", got config.model "a".',
    ],
    [
      { forgettingWeight: 1 },
      "of a sweep with sweep.forgetting_weight 1, got sweep.forgetting_weight 0.",
    ],
  ] as const) {
    await refusedLater(
      () => sweep(optionsOf(folder, { ...own, ...change })),
      "ConfigError",
      part,
      "Nothing was changed.",
    );
  }
  is(linesIn(folder), before);
});

test("what the trials of TPE know of each other stays the same", async () => {
  const folder = newFolder();
  const own = (round: number) => ({ search: { search: "tpe", trials: 4, round } as const });
  await sweep(optionsOf(folder, own(2)));
  await refusedLater(
    () => sweep(optionsOf(folder, own(1))),
    "ConfigError",
    "sweep.round 1, got sweep.round 2.",
  );
});

test("lines that are no trials, or of other settings, are refused with their number", async () => {
  const folder = newFolder();
  await sweep(optionsOf(folder));
  const path = join(folder, "trials.jsonl");
  const lines = linesIn(folder).split("\n");
  const rewrite = (line: string) =>
    writeFileSync(path, [lines[0], line, ...lines.slice(2)].join("\n"));
  const damaged = `sweep: ${path}, line 2, must be a trial in JSON, got `;
  rewrite("{oh");
  await refusedLater(() => sweep(optionsOf(folder)), "FormatError", damaged);
  rewrite('{"trial":"x"}');
  await refusedLater(() => TrialsFile.open(path), "FormatError", `${damaged}{"trial":"x"}`);
  rewrite(lines[1]!.replace(/"lora.lora_dropout":[0-9.]+/, '"lora.lora_dropout":0.7'));
  const other = ["sweep: trial 1 must be with {", '"lora.lora_dropout":0.7'];
  await refusedLater(() => sweep(optionsOf(folder)), "ValueError", ...other);
});

test("options out of range are refused before anything is written", async () => {
  const folder = join(newFolder(), "new");
  for (const [change, part] of [
    [{ sideBySide: 0 }, "sweep: side_by_side must be an integer of at least 1, got 0."],
    [{ forgettingWeight: -1 }, "sweep: forgetting_weight must be a number of at least 0, got -1."],
    [{ space: {} }, "sweep: space must be"],
    [{ search: { search: "asha" } }, "sweep: steps must be"],
  ] as [Partial<SweepOptions>, string][]) {
    await refusedLater(() => sweep(optionsOf(folder, change)), "ValueError", part);
  }
  ok(!existsSync(folder));
});

test("for other machines: all trials that wait for nothing, then those that the results call for", async () => {
  const folder = newFolder();
  const search = { search: "asha", trials: 9, steps: 9, eta: 3 } as const;
  const options = optionsOf(folder, { search });
  const first = await openTasks(options);
  equal(
    first.map(({ trial, steps }) => [trial, steps]),
    Array.from({ length: 9 }, (_, i) => [i, 1]),
  );
  equal(first[8]!.folder, `${folder}/trials/0008`);
  equal(await openTasks(options), first, "asked again, the same");
  const file = await TrialsFile.open(join(folder, "trials.jsonl"));
  for (const task of first) {
    const line = {
      trial: task.trial,
      settings: task.settings,
      budget: 1,
      objective: bowl(task.settings),
    };
    await file.append({ ...(line as TrialLine), seed: 0, stopped: "limit" });
  }
  equal(
    (await openTasks(options)).map(({ steps }) => steps),
    [3, 3, 3],
  );
  equal((await openTasks(optionsOf(newFolder()))).length, 6);
});

test("over seeds: the mean of trials that differ in nothing else, with its deviation", () => {
  const line = (trial: number, r: number, seed: number, objective: number | null) =>
    ({
      trial,
      settings: { "lora.r": r, seed },
      seed,
      objective,
      budget: null,
    }) as unknown as TrialLine;
  const lines = [
    line(0, 4, 1, 2),
    line(1, 4, 2, 4),
    line(2, 8, 1, 2.5),
    line(3, 8, 2, 2.5),
    line(4, 8, 3, null),
  ];
  equal(overSeeds(lines), [
    { settings: { "lora.r": 8 }, trials: [2, 3], mean: 2.5, deviation: 0 },
    { settings: { "lora.r": 4 }, trials: [0, 1], mean: 3, deviation: Math.SQRT2 },
  ]);
  const rungs = [10, 30].map((budget) => ({ ...line(0, 4, 1, 3 - budget / 30), budget }));
  equal(
    lastLines(rungs).map(({ budget }) => budget),
    [30],
  );
  const paused = { ...line(1, 4, 1, 1), budget: 10 };
  equal(
    ranking([...rungs, paused]).map(({ trial }) => trial),
    [0, 1],
    "the longer before the better",
  );
});

test.run();
