// `lowrank bench`, run as a user runs it.
import { equal, is, match, not, ok } from "uvu/assert";
import { inFolder } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { tinyWorld } from "../train/evaluation/tiny_world.ts";
import { inProcess } from "./command.ts";

gpuTest("a device, and a model on it: as text and as one document", () =>
  inFolder(async (folder) => {
    const { model } = await tinyWorld(folder);
    const run = async (...args: string[]) => {
      const ended = await inProcess(["bench", "--seconds", "0.01", "--quiet", ...args]);
      is(ended.code, 0, ended.stderr);
      not.match(ended.stdout, /undefined|NaN|\[object/);
      return ended.stdout;
    };
    const device = await run("--quick");
    match(device, /\nmatmul 64×128×128 +[\d.]+ +\d+ % +[\d.]+\n/);
    match(device, /\ngeneration, 8 prompts +\d+\n/);
    match(device, /\nAt best [\d.]+ GFLOP\/s in registers, [\d.]+ GB\/s copied\./);
    const text = await run("-m", model, "--length", "16");
    match(text, /\ntraining +[\d.e+]+ tokens\/s: LoRA r 16, 1 × 16 tokens in /);
    match(text, /\nbase as +f32 .*, bf16 .*, int8 .*, nf4 /);
    match(text, /\n {2}merged +[\d.e+]+ tokens\/s/);
    const json = JSON.parse(await run("-m", model, "--length", "16", "--dtype", "nf4", "--json"));
    equal([json.bench, json.rows.length, json.rows[0].dtype, json.rows[0].generation.merged], ["model", 1, "nf4", null]); // biome-ignore format: one line
    ok(json.cpu && json.driver && json.date);
    const wrong = await inProcess(["bench", "--seconds", "0"]);
    is(wrong.code, 2);
    match(wrong.stderr, "--seconds must be above 0 and below 3600");
    const ofModel = [["--rank", "4"], ["--batch", "2"], ["--length", "8"], ["--dtype", "nf4"], ["--load-only"]]; // biome-ignore format: one line
    for (const flags of ofModel) {
      const { code, stderr } = await inProcess(["bench", ...flags]);
      is(code, 2, flags[0]);
      match(stderr, `lowrank: ${flags[0]} must be given with --model, got none.`);
    }
    match((await inProcess(["bench", "-m", model, "--quick"])).stderr, "--quick must be given without --model"); // biome-ignore format: one line
  }),
);

runTests();
