// `lowrank train`, run as a user runs it: the run's folder, going on after Ctrl-C and kills, wrong calls.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { equal, is, match, not, ok } from "uvu/assert";
import { readMetrics, readRun } from "../../src/train/recipe/index.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { writeTinyData } from "../train/recipe/tiny_recipe.ts";
import { inProcess, signalled } from "./command.ts";

const inTiny = (body: (folder: string) => Promise<void>) => () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    await body(folder);
  });

/** A call that trains the tiny model. */
const call = (folder: string, out: string, ...more: string[]) => [
  ...["train", "-m", fixtureFolder("llama-tiny"), "--tokenizer", folder],
  ...["-d", `${folder}/text.txt`, "-o", `${folder}/${out}`, "--length", "16"],
  ...["--batch", "2", "--lr", "1e-2", "--r", "4", "--lora-dropout", "0.1"],
  ...["--set", "training.eval_rows=4", ...more],
];

gpuTest(
  "a run from flags is what the flags say, and report, inspect and eval read its folder",
  inTiny(async (folder) => {
    const general = `${folder}/general.txt`;
    const more = ["--steps", "6", "--general", general, "--target-modules", "q_proj,v_proj"];
    const args = call(folder, "run", ...more, "--seed", "3", "--profile");
    const { code, stdout, stderr } = await inProcess(args);
    is(code, 0, stderr);
    match(stdout, /^.*\nop +calls.*\n[\s\S]*lora_linear_forward[\s\S]*trace\.json/);
    match(stdout, /\nlora +.*, 6 of 6 steps, .* ms a step/);
    match(stdout, /\nvalidation +[\d.]+ → [\d.]+ nats per token \(perplexity/);
    match(stdout, /\ngeneral text +[\d.]+ → [\d.]+: (forgot|gained) [\d.]+/);
    match(stdout, /\nGPU memory +.* at most \(base .*adapters .*optimiser/);
    not.match(stdout, /undefined|NaN|\[object|\?/);
    match(stderr, /training █+ 6\/6 loss [\d.]+ valid [\d.]+/);
    const run = `${folder}/run`;
    const { config } = (await readRun(run))!;
    equal([config.seed, config.lora.r, config.training.lr], [3, 4, 0.01]);
    equal(config.lora.target_modules, ["q_proj", "v_proj"]);
    ok(readMetrics(`${run}/metrics.jsonl`).some(({ kind }) => kind === "profile"));
    ok(JSON.parse(readFileSync(`${run}/trace.json`, "utf8")).traceEvents.length > 0);
    const next = stdout.match(/ {2}lowrank eval (.*)/)![1]!.split(" ");
    const evaluated = await inProcess(["eval", ...next.map((a) => a.replace("held-out", `${folder}/text`))]); // biome-ignore format: one line
    is(evaluated.code, 0, evaluated.stderr);
    match(evaluated.stdout, /run − base/);
    const inspected = await inProcess(["inspect", run]);
    match(inspected.stdout, /\nvalidation +[\d.]+ before, [\d.]+ after/);
    not.match(inspected.stdout, /undefined|NaN|\[object/);
    is((await inProcess(["report", run])).code, 0);
    const page = readFileSync(`${run}/report.html`, "utf8");
    match(page, "lora_linear_forward");
    not.match(page, /undefined|NaN|\[object/);
  }),
);

gpuTest(
  "settings from YAML, flags over them; --json prints the record and nothing else",
  inTiny(async (folder) => {
    const yaml = `
model: ${fixtureFolder("llama-tiny")}
tokenizer: ${folder}
output: ${folder}/run
method: rslora
data: { train: ${folder}/text.txt, length: 16 }
training: { steps: 50, batch: 2, lr: { rslora: 1e-2, full: 1e-3 } }
`;
    writeFileSync(`${folder}/run.yaml`, yaml);
    const args = ["train", "-c", `${folder}/run.yaml`, "--steps", "2", "--gradient-checkpointing", "--json", "--quiet"]; // biome-ignore format: one line
    const { code, stdout, stderr } = await inProcess(args);
    equal([code, stderr], [0, ""]);
    const run = JSON.parse(stdout);
    equal(run, await readRun(`${folder}/run`));
    equal([run.steps, run.config.method, run.config.training.lr], [2, "rslora", 0.01]);
    is(run.config.training.gradient_checkpointing, true);
  }),
);

gpuTest(
  "--lr auto finds a rate and says so; --resume keeps it",
  inTiny(async (folder) => {
    const more = ["--steps", "4", "--lr", "auto", "--batch", "4"];
    const { code, stdout, stderr } = await inProcess(call(folder, "run", ...more));
    is(code, 0, stderr);
    const found =
      /learning rate +[\d.e-]+, found: half of the fall had come; the loss was lowest at/;
    match(stdout, found);
    match(stderr, /finding a learning rate …\n[\s\S]*learning rate [\d.e-]+, found: /);
    const again = await inProcess(["train", "--resume", "-o", `${folder}/run`]);
    is(again.code, 0, again.stderr);
    match(again.stdout, found);
    not.match(again.stderr, "finding");
  }),
);

gpuTest(
  "several methods: a run each, their figures side by side, a tenth of the rate for full",
  inTiny(async (folder) => {
    const methods = ["--method", "lora,full,dora", "--steps", "4", "--lr", "1e-3"];
    const args = call(folder, "all", ...methods, "--general", `${folder}/general.txt`);
    const { code, stdout, stderr } = await inProcess(args);
    is(code, 0, stderr);
    match(stdout, /^ +lora +full +dora\nlearning rate +0\.001 +0\.0001 +0\.001\n/);
    for (const name of [
      "validation loss after",
      "forgetting",
      "  optimiser",
      "step, ms",
      "on disk",
    ]) {
      match(stdout, new RegExp(`\\n${name}( +[\\d.e-]+( [KM]?i?B)?){3}\\n`)); // biome-ignore format: one line
    }
    const { arms } = JSON.parse(readFileSync(`${folder}/all/comparison.json`, "utf8"));
    const [lora, full, dora] = arms;
    for (const arm of arms) {
      const { config, valid, memory, adapter_bytes } = (await readRun(arm.folder))!;
      equal([arm.valid, arm.memory, arm.bytes], [valid, memory, adapter_bytes]);
      is(config.method, arm.method);
      is(arm.valid.before, lora.valid.before, "the same held-out rows of the same base");
    }
    equal(lora.parameters.total - lora.parameters.trainable, full.parameters.total);
    ok(full.memory.peak_bytes.optimiser > lora.memory.peak_bytes.optimiser);
    ok(dora.parameters.trainable > lora.parameters.trainable);
    // Alone it is the same.
    const alone = call(folder, "alone", "--steps", "4", "--method", "dora", "--lr", "1e-3");
    is((await inProcess(alone)).code, 0);
    const bytes = (run: string) =>
      readFileSync(`${folder}/${run}/adapter/adapter_model.safetensors`);
    equal(bytes("all/dora"), bytes("alone"));
    const page = await inProcess(["report", `${folder}/all`]);
    is(page.code, 0, page.stderr);
    const twice = await inProcess(call(folder, "x", "--method", "lora,lora"));
    is(twice.code, 2);
    match(twice.stderr, "config: method (--method) must be each named once");
  }),
);

gpuTest(
  "several methods: what one should know of all, and of one of them alone",
  inTiny(async (folder) => {
    writeFileSync(`${folder}/text.txt`, "the quick");
    const methods = [
      "--method",
      "lora,full",
      "--steps",
      "2",
      "--set",
      "training.on_non_finite=skip",
    ];
    const args = call(folder, "both", ...methods, "--lr", "lora=1e30");
    const { code, stdout, stderr } = await inProcess(args);
    is(code, 0, stderr);
    match(stdout, "\nnote: nothing is held out, for the text fits one row");
    match(stdout, "\nnote: lora: 1 step moved nothing: not finite\n");
  }),
);

gpuTest(
  "several methods: the base writes its texts once for all",
  inTiny(async (folder) => {
    const more = ["--method", "lora,dora", "--steps", "2", "--self-replay"];
    const { code, stderr } = await inProcess(call(folder, "both", ...more));
    is(code, 0, stderr);
    ok(existsSync(`${folder}/both/self_replay.json`));
    for (const arm of ["lora", "dora"]) {
      not.ok(existsSync(`${folder}/both/${arm}/self_replay.json`), arm);
    }
  }),
);

gpuTest(
  "a comparison that is interrupted goes on with --resume",
  inTiny(async (folder) => {
    const more = ["--method", "lora,full", "--steps", "60", "--eval-every", "30"];
    const args = call(folder, "both", ...more);
    const cut = await signalled(args, `${folder}/both/lora`, "SIGINT", 5);
    is(cut.code, 130, cut.stderr);
    not.ok(existsSync(`${folder}/both/full`));
    const { code, stdout, stderr } = await inProcess([...args, "--resume", "--json", "--quiet"]);
    equal([code, stderr], [0, ""]);
    const { arms } = JSON.parse(stdout);
    equal(
      arms.map(({ method, steps, stopped }: Record<string, unknown>) => [method, steps, stopped]),
      [
        ["lora", 60, "steps"],
        ["full", 60, "steps"],
      ],
    );
  }),
);

gpuTest(
  "killed, interrupted by Ctrl-C and resumed: the adapter of a run without a break, to the bit",
  inTiny(async (folder) => {
    const more = ["--steps", "240", "--eval-every", "120", "--set", "training.checkpoint_every=10"];
    const whole = await inProcess([...call(folder, "whole", ...more), "--quiet"]);
    is(whole.code, 0, whole.stderr);
    const out = `${folder}/run`;
    const killed = await signalled(call(folder, "run", ...more), out, "SIGKILL", 15);
    is(killed.code, null);
    const resume = ["train", "--resume", "-o", out];
    const interrupted = await signalled(resume, out, "SIGINT", 40);
    is(interrupted.code, 130, interrupted.stderr);
    match(interrupted.stderr, "Ends after this step and saves");
    const { stopped, steps } = (await readRun(out))!;
    is(stopped, "aborted");
    ok(steps >= 40 && steps < 240 && existsSync(`${out}/adapter`), `${steps}`);
    const last = await inProcess(resume);
    is(last.code, 0, last.stderr);
    const bytes = (run: string) => readFileSync(`${run}/adapter/adapter_model.safetensors`);
    equal(bytes(out), bytes(`${folder}/whole`));
    is((await readRun(out))!.steps, 240);
    const again = await inProcess(resume);
    is(again.code, 0, again.stderr);
    equal(bytes(out), bytes(`${folder}/whole`));
  }),
);

gpuTest(
  "a run that stops at a number that is none ends with exit code 1; one that skips goes on to its end",
  inTiny(async (folder) => {
    const args = (out: string) => call(folder, out, "--steps", "4", "--lr", "1e38", "--schedule", "constant"); // biome-ignore format: one line
    const stop = await inProcess(args("stop"));
    is(stop.code, 1, stop.stderr);
    match(stop.stdout, /ended early +a loss or gradient was not finite; try a lower rate/);
    match(stop.stdout, /note +1 step moved nothing: not finite/);
    const skip = await inProcess([...args("skip"), "--set", "training.on_non_finite=skip"]);
    is(skip.code, 0, skip.stderr);
    match(skip.stdout, / 4 of 4 steps[\s\S]*note +\d steps? moved nothing: not finite/);
  }),
);

gpuTest(
  "what is wrong: exit code 2, the key and its flag or file, and no folder",
  inTiny(async (folder) => {
    writeFileSync(`${folder}/bad.yaml`, "model: m\noutput: o\ndata: { train: t }\ntraining: { ler: 1 }\n"); // biome-ignore format: one line
    writeFileSync(`${folder}/twice.yaml`, "model: m\nmodel: n\n");
    const good = call(folder, "run", "--steps", "1");
    const cases: [string[], string | RegExp][] = [
      [["train", "-d", "t", "-o", "o"], "--model must be given, got nothing. Or name a file"],
      [["train", "-m", "m", "-d", "t"], "--out must be given"],
      [[...good, "--lr", "fast"], 'config: training.lr (--lr) must be a number above 0, or auto, got "fast"'],
      [[...good, "--lr", "lora=1e-3,fool=1"], /training\.lr \(--lr\) must be of one of lora, dora/],
      [[...good, "--epochs", "1"], "config: training.epochs (--epochs) must be absent where"],
      [[...good, "--set", "training.clipp=1"], "Did you mean training.clip?"],
      [[...good, "--set", "training.clip"], "--set must be key=value"],
      [[...good, "--set", "training.clip=-1"], "training.clip (--set training.clip) must be"],
      [[...good, "--method", "loro"], /method \(--method\) must be one of lora, dora/],
      [[...good, "--target-modules", "q_prj"], /lora\.target_modules.*q_proj/],
      [["train", "-c", `${folder}/bad.yaml`], /training\.ler \(.*bad\.yaml\) must be one of .*/],
      [["train", "-c", `${folder}/twice.yaml`], /twice\.yaml, line 2: Map keys must be unique\.\n/],
      [["train", "-c", `${folder}/none.yaml`], "none.yaml"],
      [["train", "--resume", "-o", `${folder}/run`], /--out must be a folder with a run to go on with, got .*run\. A run of several/],
      [[...good, "--self-replay", "--replay", "g"], /data\.replay must be .* got "both"/],
      [[...good, "--resume"], "config: output (--out) must be a folder with the run to go on with"],
    ]; // biome-ignore format: as a table
    for (const [args, message] of cases) {
      const { code, stderr, stdout } = await inProcess(args);
      is(code, 2, `${args.join(" ")}\n${stderr}`);
      match(stderr, message);
      is(stdout, "");
      not.ok(existsSync(`${folder}/run`), args.join(" "));
    }
  }),
);

gpuTest(
  "data that cannot be used: the file, the line and the reason, what to do, and no folder",
  inTiny(async (folder) => {
    const good = '{"text": "the fox"}\n';
    const files: [name: string, text: string, message: string | RegExp][] = [
      ["json.jsonl", `${good}{"text": fox}\n`, /json\.jsonl, line 2: not JSON: .*--skip-bad of the/],
      ["prompt.jsonl", '{"prompt": "the"}\n', "prompt.jsonl, line 1: a prompt without a completion"],
      ["none.jsonl", '{"prompt": "the", "completion": ""}\n', "line 1: completion is empty"],
      ["chat.jsonl", '{"messages": []}\n', "line 1: messages holds no turn of the assistant"],
      ["field.jsonl", '{"txt": "the"}\n', "nor messages, but txt"],
      ["long.jsonl", `{"text": "${"fox ".repeat(9)}"}\n`, /line 1: \d+ tokens, but 17 fit\. .*--long/],
      ["empty.txt", "", /data: .*empty\.txt must be at least one example, got none of 0 samples \(0 bad, 0 too long\)/],
      ["bytes.txt", "fox\0fox", "bytes.txt, line 1: binary data"],
      ["list.json", "[]", /list\.json must be JSONL, got JSON\. .*jq/],
    ]; // biome-ignore format: as a table
    const run = (name: string, ...more: string[]) => {
      const args = call(folder, "run", "--steps", "1", ...more);
      return inProcess(
        args.map((arg) => (arg === `${folder}/text.txt` ? `${folder}/${name}` : arg)),
      );
    };
    for (const [name, text, message] of files) {
      writeFileSync(`${folder}/${name}`, text);
      const { code, stderr, stdout } = await run(name);
      equal([code, stdout], [1, ""], stderr);
      match(stderr, message);
      not.match(stderr, /\n +at /);
      not.ok(existsSync(`${folder}/run`), name);
    }
    match((await run("gone.txt")).stderr, "gone.txt must be a file that can be read, got ENOENT");
    writeFileSync(`${folder}/json.jsonl`, `${good.repeat(2)}{"text": fox}\n`);
    const { code, stdout, stderr } = await run("json.jsonl", "--skip-bad", "--long", "truncate");
    is(code, 0, stderr);
    match(stdout, /note +1 sample passed over as bad: .*json\.jsonl, line 3: not JSON/);
    equal((await readRun(`${folder}/run`))!.data.bad, 1);
    const twice = await run("text.txt");
    is(twice.code, 2);
    match(
      twice.stderr,
      /output \(--out\) must be a folder without a run, got .*\. Go on with it by/,
    );
  }),
);

runTests();
