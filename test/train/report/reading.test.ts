// Reading folders of runs and sweeps: whole, torn, doubled, damaged, and none at all.
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { findingsOf } from "../../../src/train/report/findings.ts";
import { readRun } from "../../../src/train/report/read_run.ts";
import { readSweep } from "../../../src/train/report/read_sweep.ts";
import { readSubject } from "../../../src/train/report/subject.ts";
import { inFolder } from "../../child.ts";
import { type Made, makeRun, makeSweep, metricsOf, refusal } from "./made.ts";

test("a run is read as it was written", () =>
  inFolder(async (folder) => {
    makeRun(`${folder}/r`, { steps: 100, skipped: [7] });
    const run = await readRun(`${folder}/r`);
    is(run.name, "r");
    is(run.steps.length, 100);
    const lines = metricsOf({ steps: 100, skipped: [7] });
    const step = lines.find((line) => line.kind === "step" && line.step === 50)!;
    equal(run.steps[49], {
      step: 50,
      loss: step.loss,
      smoothed: step.smoothed_loss,
      lr: step.lr,
      gradNorm: step.grad_norm,
      stepMs: step.step_ms,
      tokensPerSecond: 24_000,
      skipped: false,
    });
    is(run.steps[6]!.loss, null);
    is(run.steps[6]!.skipped, true);
    is(run.valid.length, 21, "20 looks and the one before training");
    equal(run.valid[0], { step: 0, loss: 3.402 });
    is(run.general.length, 6);
    is(run.ops[0]!.op, "lora_linear_forward", "the longest first");
    equal(run.damage, []);
  }));

test("a torn last line is forgiven and told, damage in the middle is told with its line", () =>
  inFolder(async (folder) => {
    makeRun(folder, { steps: 40 });
    const path = `${folder}/metrics.jsonl`;
    const lines = readFileSync(path, "utf8").split("\n");
    lines[3] = '{"kind":"step","st';
    lines[4] = "[1]";
    writeFileSync(path, lines.join("\n"));
    appendFileSync(path, '{"kind":"step","step":41,"lo');
    const run = await readRun(folder);
    is(run.steps.length, 38);
    equal(run.damage, [
      "metrics.jsonl: 2 lines are no JSON object and left out (4, 5).",
      "metrics.jsonl: the last line is torn; its writer was killed, or is at work.",
    ]);
  }));

test("a run that went on wrote some steps twice: what came later counts", () =>
  inFolder(async (folder) => {
    mkdirSync(folder, { recursive: true });
    const line = (kind: string, step: number, loss: number) =>
      `${JSON.stringify({ kind, step, loss })}\n`;
    const first = [1, 2, 3, 4].map((i) => line("step", i, 9)).join("") + line("valid", 4, 9);
    const second = [3, 4, 5].map((i) => line("step", i, 1)).join("") + line("valid", 4, 1);
    writeFileSync(`${folder}/metrics.jsonl`, first + second);
    const run = await readRun(folder);
    equal(
      run.steps.map(({ step, loss }) => [step, loss]),
      [
        [1, 9],
        [2, 9],
        [3, 1],
        [4, 1],
        [5, 1],
      ],
    );
    equal(run.valid, [{ step: 4, loss: 1 }]);
  }));

test("without smoothed_loss the report smooths by itself", () =>
  inFolder(async (folder) => {
    const lines = [4, 2, 3].map((loss, i) => JSON.stringify({ kind: "step", step: i + 1, loss }));
    writeFileSync(`${folder}/metrics.jsonl`, lines.join("\n"));
    const { steps } = await readRun(folder);
    is(steps[0]!.smoothed, 4);
    ok(steps[2]!.smoothed! > 2 && steps[2]!.smoothed! < 4);
  }));

test("what is of a wrong type counts as absent", () =>
  inFolder(async (folder) => {
    const odd = {
      config: 7,
      started: "yesterday",
      parameters: { trainable: "many" },
      memory: null,
      valid: [],
      notes: "x",
      stopped: "__proto__",
    };
    writeFileSync(`${folder}/run.json`, JSON.stringify(odd));
    const lines = [
      '{"kind":"step","step":"1","loss":1}',
      '{"kind":"valid","step":1,"loss":"low"}',
      '{"step":3}',
    ];
    writeFileSync(`${folder}/metrics.jsonl`, `${lines.join("\n")}\n`);
    const run = await readRun(folder);
    equal([run.steps, run.valid, run.general, run.ops], [[], [], [], []]);
    equal(
      findingsOf(run).map(({ title }) => title),
      ["Not ended"],
    );
  }));

test("a sweep's trials come the best first, whole ones before paused, with the last line of each", () =>
  inFolder(async (folder) => {
    const line = (trial: number, objective: number | null, budget: number | null, more = {}) =>
      `${JSON.stringify({ trial, settings: { "lora.r": 4 + trial, on: ["q", "v"], seed: 0 }, objective, budget, ...more })}\n`;
    writeFileSync(
      `${folder}/trials.jsonl`,
      line(0, 1.5, 10) +
        line(1, 2, null) +
        line(2, null, null, { stopped: "failed" }) +
        line(0, 1.4, 20, { stopped: "limit" }) +
        line(3, 1.9, 40, { stopped: "steps" }) +
        '{"trial":"x"}\n{"trial":4,"settings":{},"objec',
    );
    const { trials, varied, damage } = await readSweep(folder);
    equal(trials.map(({ paused }) => paused), [false, false, true, false]); // biome-ignore format: one line
    equal(
      trials.map(({ name, objective }) => [name, objective]),
      [
        ["1", 2],
        ["3", 1.9],
        ["0", 1.4],
        ["2", null],
      ],
    );
    equal(trials[0]!.settings, { "lora.r": 5, on: "q+v", seed: 0 });
    equal(varied, ["lora.r"]);
    match(damage[0]!, "the last line is torn");
  }));

test("trials that differ in their seed alone are averaged", () =>
  inFolder(async (folder) => {
    const lines = [1, 2, 3].map((seed) =>
      JSON.stringify({
        trial: seed,
        settings: { "lora.r": 8, seed },
        seed,
        objective: seed,
        budget: null,
      }),
    );
    writeFileSync(`${folder}/trials.jsonl`, `${lines.join("\n")}\n`);
    const { groups } = await readSweep(folder);
    equal(groups, [{ settings: { "lora.r": 8 }, trials: [1, 2, 3], mean: 2, deviation: 1 }]);
  }));

test("a trial's own run gives its validation curve", () =>
  inFolder(async (folder) => {
    makeSweep(folder, { trials: 3 });
    const { trials } = await readSweep(folder);
    ok(trials.every(({ valid }) => valid.length > 2));
  }));

test("a folder that holds runs stands for all of them; equal names get what tells them apart", () =>
  inFolder(async (folder) => {
    const small: Made = { steps: 20 };
    for (const name of ["a/run", "b/run", "c/other"]) makeRun(`${folder}/${name}`, small);
    const { runs } = await readSubject([`${folder}/a`, `${folder}/b/run`, `${folder}/c/other`]);
    const again = await readSubject([`${folder}/a`, `${folder}/a/run/`, `${folder}/b/../a`]);
    is(again.runs.length, 1, "a folder that is named twice is one");
    equal(
      runs.map(({ name }) => name),
      ["a/run", "b/run", "other"],
    );
    makeSweep(`${folder}/s`, { trials: 2 });
    const { sweeps } = await readSubject([`${folder}/s`]);
    equal(
      sweeps.map(({ name }) => name),
      ["s"],
    );
  }));

test("a folder that is no run is refused, with what it is instead", () =>
  inFolder(async (folder) => {
    const expected = "must be the folder of a run (run.json, metrics.jsonl) or of a sweep";
    mkdirSync(`${folder}/empty`);
    mkdirSync(`${folder}/other`);
    for (const name of ["a", "b", "c", "d", "e"]) writeFileSync(`${folder}/other/${name}.txt`, "");
    writeFileSync(`${folder}/file`, "");
    for (const [name, got] of [
      ["nothing", "got nothing of this name."],
      ["file", "got a file."],
      ["empty", "got an empty folder."],
      ["other", "got a folder with a.txt, b.txt, c.txt, d.txt, …."],
    ]) {
      const error = await refusal(() => readSubject([`${folder}/${name}`]));
      is(error.name, "FormatError");
      match(error.message, `report: ${folder}/${name} ${expected}`);
      match(error.message, got!);
    }
    match(
      (await refusal(() => readSubject([]))).message,
      "report: folders must be folders of runs",
    );
    mkdirSync(`${folder}/broken`);
    writeFileSync(`${folder}/broken/run.json`, "{");
    match((await refusal(() => readSubject([`${folder}/broken`]))).message, "run.json is not JSON");
  }));

test.run();
