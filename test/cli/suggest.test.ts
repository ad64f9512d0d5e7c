// `lowrank suggest`, run as a user runs it.
import { existsSync } from "node:fs";
import { equal, is, match, not } from "uvu/assert";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { writeTinyData } from "../train/recipe/tiny_recipe.ts";
import { inProcess } from "./command.ts";

gpuTest("text and JSON say the same; what is written is trained by -c", () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    const file = `${folder}/run.yaml`;
    const call = (...more: string[]) => [
      ...["suggest", "-m", fixtureFolder("llama-tiny"), "--tokenizer", folder],
      ...["-d", `${folder}/text.txt`, "-o", `${folder}/run`, ...more],
    ];
    const { code, stdout, stderr } = await inProcess(call("--steps", "2", "--write", file));
    is(code, 0, stderr);
    for (const line of [
      /^model +.*llama-tiny: [\d,]+ parameters, 2 layers of width 32, context 24\n/,
      /\ntrained +[\d,]+ of [\d,]+ parameters \([\d.]+ %\)\n/,
      /\nsteps +2 of \d rows?\n/,
      /\nmemory +about [\d.]+ KiB \(base .*, workspace .*\); full fine-tuning would take/,
      /\nroom +[\d.]+ kbit, at 2 bits a parameter; the text says about/,
      /\nlora\.r +16 +the usual start/,
      /\ntraining\.lr +auto +a short test finds it/,
      /\nWarning: the text says/,
      /\nHint: --general/,
      /lowrank train -c .*run\.yaml\n?$/,
    ]) {
      match(stdout, line);
    }
    not.match(stdout, /undefined|NaN|\[object|training\.epochs/);
    const json = JSON.parse((await inProcess(call("--steps", "2", "--json", "--quiet"))).stdout);
    equal([json.steps, json.settings.training.lr], [2, "auto"]);
    const trained = await inProcess(["train", "-c", file, "--lr", "1e-3"]);
    is(trained.code, 0, trained.stderr);
    const tight = await inProcess(call("--memory", "200KB"));
    match(tight.stdout, /memory +about [\d.]+ KiB of 195\.3 KiB/);
    match(tight.stdout, /so that a step fits the memory/);
    const wrong: [string[], string | RegExp][] = [
      [["suggest", "-m", "m"], "--data must be given, got nothing."],
      [call("--memory", "much"), '--memory must be bytes, such as 4GiB or 800MB, got "much".'],
      [call("--write", file), "config: the file must be one that is not there yet"],
      [call("--method", "lora,full"), /method \(--method\) must be one of lora/],
    ];
    for (const [args, message] of wrong) {
      const ended = await inProcess(args);
      is(ended.code, 2, ended.stderr);
      match(ended.stderr, message);
    }
    is(existsSync(`${folder}/run/adapter`), true);
  }),
);

runTests();
