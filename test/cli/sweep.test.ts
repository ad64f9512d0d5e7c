// `lowrank sweep`, run as a user runs it: here, broken off, on other machines, and called wrongly.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, not, ok } from "uvu/assert";
import { trialTable } from "../../src/cli/sweep_text.ts";
import { readRun } from "../../src/train/recipe/index.ts";
import type { TrialLine } from "../../src/train/sweep/index.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { writeTinyData } from "../train/recipe/tiny_recipe.ts";
import { inProcess, lowrank, signalled } from "./command.ts";

const inTiny = (body: (folder: string) => Promise<void>) => () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    await body(folder);
  });

/** A sweep over the tiny model. */
const call = (folder: string, out: string, ...more: string[]) => [
  ...["sweep", "-m", fixtureFolder("llama-tiny"), "--tokenizer", folder],
  ...["-d", `${folder}/text.txt`, "-o", `${folder}/${out}`, "--length", "16", "--batch", "2"],
  ...["--steps", "4", "--lora-dropout", "0.1", "--set", "training.eval_rows=4"],
  ...["--space", "r=2,4", "--space", "lr=1e-3..1e-1", ...more],
];

const linesOf = (sweep: string): TrialLine[] =>
  readFileSync(`${sweep}/trials.jsonl`, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

/** What must be the same however often a sweep was broken off. */
const timeless = (sweep: string) => linesOf(sweep).map(({ seconds: _, ...line }) => line);

const adapterOf = (run: string) => readFileSync(`${run}/adapter/adapter_model.safetensors`);

async function good(args: readonly string[]) {
  const ended = await inProcess(args);
  is(ended.code, 0, `${args.join(" ")}\n${ended.stderr}`);
  return ended;
}

test("settings of a table are written so that they can be typed again", () => {
  const line: TrialLine = {
    ...{ trial: 0, settings: { seed: 1234567, lr: 0.0001 }, seed: 0, folder: "trials/0000" },
    ...{ objective: 2, valid_loss: 2, forgetting: null, steps: 9, budget: null, seconds: 1 },
    stopped: "steps",
  };
  match(trialTable([line]), /\n0 +1234567 +0\.0001 +2 +9 +1\.0$/);
  match(trialTable([{ ...line, objective: null }]), / not finite +9 +1\.0$/);
});

gpuTest(
  "trials are runs; a table from the best on, and a configuration with which train repeats it",
  inTiny(async (folder) => {
    const own = ["--trials", "3", "--search", "random", "--general", `${folder}/general.txt`];
    const args = call(folder, "sweep", ...own, "--forgetting-weight", "0.5", "--seed", "3");
    const { stdout, stderr } = await good(args);
    match(stdout, /^trial +r +lr +objective +valid +forgetting +steps +seconds\n/);
    match(stdout, /\nBest: r [24], lr [\d.]+\n\nNext:\n.*\n {2}lowrank train -c .*best\.json\n/);
    match(stdout, `\n  lowrank generate -a ${folder}/sweep/trials/000`);
    match(stdout, ` --tokenizer ${folder} --prompt "…"\n`);
    not.match(stdout, /undefined|NaN|\[object/);
    match(stderr, /trials █+ 3\/3 best [\d.]+ \(\d\)/);
    const sweep = `${folder}/sweep`;
    const lines = linesOf(sweep);
    is(lines.length, 3);
    const losses = lines.map(({ objective }) => objective!);
    for (const line of lines) {
      const { config, valid, general } = (await readRun(`${sweep}/${line.folder}`))!;
      equal(
        [config.lora.r, config.lora.lora_alpha, config.training.lr, config.seed],
        [line.settings["lora.r"], 2 * Number(line.settings["lora.r"]), line.settings["training.lr"], 3],
      ); // biome-ignore format: in pairs
      const forgot = Math.max(0, general!.forgetting!);
      equal([line.valid_loss, line.forgetting], [valid!.after, general!.forgetting]);
      is(line.objective, valid!.after! + 0.5 * forgot);
    }
    const [first] = stdout.split("\n").slice(1);
    is(Number(first!.trim().split(" ")[0]), losses.indexOf(Math.min(...losses)));
    const best = lines[losses.indexOf(Math.min(...losses))]!;
    await good(["train", "-c", `${sweep}/best.json`, "--quiet"]);
    equal(adapterOf(`${sweep}/best`), adapterOf(`${sweep}/${best.folder}`));
    await good(["report", sweep]);
    match(readFileSync(`${sweep}/report.html`, "utf8"), "by random");
    const again = await good(["sweep", sweep, "--json", "--quiet"]);
    equal([again.stderr, linesOf(sweep)], ["", lines]);
    const summary = JSON.parse(again.stdout);
    equal([summary.best, summary.done, summary.settings], [best, true, best.settings]);
    // More trials are what would have come.
    await good(["sweep", sweep, "--trials", "4", "--quiet"]);
    equal([linesOf(sweep).slice(0, 3), linesOf(sweep).length], [lines, 4]);
  }),
);

gpuTest(
  "from a file; a trial that fails is written down with its error, and seeds are averaged",
  inTiny(async (folder) => {
    const yaml = `
model: ${fixtureFolder("llama-tiny")}
tokenizer: ${folder}
output: ${folder}/sweep
data: { train: ${folder}/text.txt, length: 16 }
training: { steps: 2, batch: 2 }
space: { lr: [1e-3, 1e-2], seed: [0, 1] }
sweep: { search: grid }
`;
    writeFileSync(`${folder}/sweep.yaml`, yaml);
    // No folder can be made where there is a file.
    mkdirSync(`${folder}/sweep/trials`, { recursive: true });
    writeFileSync(`${folder}/sweep/trials/0001`, "");
    const { stdout, stderr } = await good(["sweep", "-c", `${folder}/sweep.yaml`]);
    const lines = linesOf(`${folder}/sweep`);
    equal(
      lines.map(({ seed, stopped }) => [seed, stopped]),
      [[0, "steps"], [1, "failed"], [0, "steps"], [1, "steps"]],
    ); // biome-ignore format: a list
    match(lines[1]!.error!, "0001");
    match(stderr, /\ntrial 1 failed: .*0001/);
    match(stdout, /\n1 +0\.001 +1 +failed +0 /);
    match(stdout, /\nseeds +lr +mean +deviation\n[12] +0\.0/);
    match(stdout, "\nBest: lr 0.0");
    // Method full needs another base, and so do f16 and f32; together they are refused.
    const apart = ["--space", "method=lora,full", "--space", "base_dtype=auto,f16"];
    const own = ["--search", "grid", "--side-by-side", "4", "--steps", "1", "--quiet"];
    const args = call(folder, "apart", ...own, ...apart, "--space", "r=4", "--space", "lr=1e-3");
    await good(args);
    equal(
      linesOf(`${folder}/apart`).map(({ stopped, error }) => [stopped, error?.split(" must")[0]]),
      [...Array(3).fill(["steps", undefined]), ["failed", "config: base_dtype (space)"]],
    );
  }),
);

gpuTest(
  "killed, interrupted by Ctrl-C and gone on with: the lines and adapters of a sweep without a break",
  inTiny(async (folder) => {
    const more = ["--search", "asha", "--trials", "4", "--eta", "2", "--min-steps", "10"];
    const long = [...more, "--steps", "40", "--eval-every", "40", "--set", "training.checkpoint_every=5"]; // biome-ignore format: one line
    const whole = `${folder}/whole`;
    await good([...call(folder, "whole", ...long), "--quiet"]);
    const sweep = `${folder}/sweep`;
    const args = call(folder, "sweep", ...long);
    const killed = await signalled(args, `${sweep}/trials/0001`, "SIGKILL", 7);
    is(killed.code, null);
    const cut = await signalled([...args, "--resume"], `${sweep}/trials/0003`, "SIGINT", 3);
    is(cut.code, 130, cut.stderr);
    match(cut.stderr, /Ends after this step and saves[\s\S]*Interrupted; lowrank sweep .* goes on/);
    await good(["sweep", "--resume", "-o", sweep, "--quiet"]);
    equal(timeless(sweep), timeless(whole));
    await good(["sweep", sweep, "--quiet"]);
    ok(timeless(whole).some(({ stopped, steps }) => stopped === "limit" && steps === 10));
    ok(timeless(whole).some(({ stopped, steps }) => stopped === "steps" && steps === 40));
    for (const trial of readdirSync(`${whole}/trials`)) {
      equal(adapterOf(`${sweep}/trials/${trial}`), adapterOf(`${whole}/trials/${trial}`), trial);
    }
  }),
);

gpuTest(
  "side by side: the lines and adapters of one after another",
  inTiny(async (folder) => {
    const dropouts = ["--space", "lora_dropout=0,0.2", "--search", "grid", "--quiet"];
    const rates = [...dropouts, "--space", "lr=1e-3,1e-2", "--trials", "7"];
    await good(call(folder, "alone", ...rates));
    await good(call(folder, "beside", ...rates, "--side-by-side", "4"));
    const [alone, beside] = [`${folder}/alone`, `${folder}/beside`];
    equal(timeless(beside), timeless(alone));
    for (const { folder: run } of linesOf(alone)) {
      equal(adapterOf(`${beside}/${run}`), adapterOf(`${alone}/${run}`), run);
    }
  }),
);

gpuTest(
  "exported, run trial by trial and collected: the lines of the sweep",
  inTiny(async (folder) => {
    const own = ["--search", "one-at-a-time"];
    const args = (out: string) => [...call(folder, out, ...own), "--space", "lr=1e-3,1e-2", "--quiet"]; // biome-ignore format: one line
    await good(args("here"));
    const there = `${folder}/there`;
    const { code, stdout, stderr } = await lowrank([...args("there"), "--export", "slurm"]); // a process in which nothing opened a device
    is(code, 0, stderr);
    match(stdout, `3 trials: ${there}/sweep.sbatch\n\nNext:\n`);
    match(readFileSync(`${there}/sweep.sbatch`, "utf8"), `npx lowrank sweep ${there} --trial`);
    for (const trial of ["2", "0", "1"]) await good(["sweep", there, "--trial", trial, "--quiet"]);
    const again = await good(["sweep", there, "--trial", "1", "--json"]);
    is(JSON.parse(again.stdout).trial, 1);
    not.ok(existsSync(`${there}/trials.jsonl`));
    match((await good(["sweep", there, "--collect"])).stdout, "3 new results, 3 trials in all\n");
    equal(timeless(there), timeless(`${folder}/here`));
    match((await good(["sweep", there, "--export", "ray"])).stdout, "the search is over");
    const odd = await good([...args("one by one"), "--search", "tpe", "--trials", "2", "--export", "slurm"]); // biome-ignore format: one line
    match(odd.stdout, `1 trial: ${folder}/one by one/sweep.sbatch\n`);
    const file = readFileSync(`${folder}/one by one/sweep.sbatch`, "utf8");
    match(file, `\n#SBATCH --output='${folder}/one by one/slurm-%a.log'\n`);
    const over = await inProcess(["sweep", there, "--trial", "1"]);
    is(over.code, 1);
    match(over.stderr, "sweep: trial must be of a sweep that is not over, got 1.");
    await good(["sweep", there, "--quiet"]);
    equal(timeless(there), timeless(`${folder}/here`));
  }),
);

gpuTest(
  "what is wrong: exit code 2, the key and its flag or file, and nothing written",
  inTiny(async (folder) => {
    const args = call(folder, "sweep");
    const cases: [string[], string | RegExp][] = [
      [["sweep", "-d", "t", "-o", "o", "--space", "r=1"], "--model must be given, got nothing"],
      [["sweep", "-m", "m", "-d", "t", "-o", "o"], "config: space must be settings with their"],
      [["sweep", folder], `the folder must be one of a sweep, with sweep.json, got ${folder}`],
      [["sweep", folder, "-c", "x.yaml"], "--config must be absent where"],
      [["sweep", "--collect"], "--collect must be beside a sweep's folder"],
      [[...args, "--space", "r"], '--space must be setting=values, got "r". As --space r=4'],
      [[...args, "--space", "rank=4"], /space\.rank \(--space rank\) must be a setting.*Did you/],
      [[...args, "--space", "r=8..4"], /space\.lora\.r .* low is below its high/],
      [[...args, "--space", "target_modules=[[q_prj]]"], /target_modules.*q_proj/],
      [[...args, "--search", "bayes"], "config: sweep.search (--search) must be one of one-at"],
      [[...args, "--trials", "x"], 'config: sweep.trials (--trials) must be a positive integer, got "x"'],
      [[...args, "--eta", "3"], "sweep.eta (--eta) must be absent unless sweep.search is asha"],
      [[...args, "--method", "lora,full"], "config: method (--method) must be one of lora, dora"],
      [[...args, "--export", "pbs"], "--export must be one of slurm, ray, k8s, got pbs"],
      [[...args, "--export", "ray", "--trial", "1"], "--trial must be given alone"],
      [[...args, "--valid", `${folder}/none.txt`], "none.txt"],
      [[...args, "--resume"], "config: output (--out) must be a folder with the sweep to go on"],
    ]; // biome-ignore format: as a table
    for (const [wrong, message] of cases) {
      const { code, stderr, stdout } = await inProcess(wrong);
      is(code, message === "none.txt" ? 1 : 2, `${wrong.join(" ")}\n${stderr}`);
      match(stderr, message);
      is(stdout, "");
      not.ok(existsSync(`${folder}/sweep`), wrong.join(" "));
    }
    const own = ["--search", "random", "--trials", "1", "--quiet"];
    await good([...args, ...own]);
    const before = linesOf(`${folder}/sweep`);
    for (const [wrong, message] of [
      [[...args, ...own], "config: output (--out) must be a folder without a sweep"],
      [["sweep", `${folder}/sweep`, "--search-seed", "1"], "of a sweep with sweep.seed 1, got sweep.seed 0"],
      [["sweep", `${folder}/sweep`, "--steps", "9"], "config.training.steps 9, got config.training.steps 4"],
      [["sweep", `${folder}/sweep/trials/0000`], "must be one of a sweep"],
    ] as [string[], string][]) {
      const { code, stderr } = await inProcess(wrong);
      is(code, 2, stderr);
      match(stderr, message);
    } // biome-ignore format: as a table
    equal(linesOf(`${folder}/sweep`), before);
  }),
);

runTests();
