// `lowrank quantize`, run as a user runs it; then every command that takes a model takes its folder.
import { existsSync, writeFileSync } from "node:fs";
import { equal, is, match, not, ok } from "uvu/assert";
import { inFolder } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { tinyWorld } from "../train/evaluation/tiny_world.ts";
import { inProcess } from "./command.ts";

gpuTest(
  "quantises, reports, and inspect, generate, eval and train take the folder as any other",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder);
      const data = `${folder}/text.txt`;
      writeFileSync(data, "To be, or not to be, that is the question. ".repeat(40));
      const q = `${folder}/q`;
      const run = async (...args: string[]) => {
        const ended = await inProcess([...args, "--quiet"]);
        is(ended.code, 0, ended.stderr);
        not.match(ended.stdout, /undefined|NaN|\[object/);
        return ended.stdout;
      };
      const json = JSON.parse(await run("quantize", "-m", world.model, "-o", q, "--data", data, "--json")); // biome-ignore format: one line
      equal([json.type, json.kinds.length, json.kinds[0].layers, json.out], ["nf4", 7, 2, q]);
      ok(json.bytesAfter < json.bytesBefore && json.probe.before.rows === json.probe.after.rows);
      const { value } = json.probe.difference.loss;
      ok(Math.abs(json.probe.after.loss.value - json.probe.before.loss.value - value) < 1e-5);
      const text = await run("quantize", "-m", world.model, "-o", `${folder}/i`, "--dtype", "int8", "-d", data); // biome-ignore format: one line
      match(text, /^Quantised .*model to int8 in .*i: .* instead of .* \(\d+ %\)\./);
      match(text, /\nq_proj +2 +2,048 /);
      match(text, /\nLoss on .*text\.txt: [\d.]+ before, [\d.]+ after; added /);

      const inspected = JSON.parse(await run("inspect", q, "--json"));
      equal([inspected.problem, inspected.parameters], [null, JSON.parse(await run("inspect", world.model, "--json")).parameters]); // biome-ignore format: one line
      equal(inspected.targets.find((t: { name: string }) => t.name === "q_proj").shape, [32, 32]);
      match(await run("inspect", q), /NF4/);
      const say = (model: string, ...more: string[]) =>
        run("generate", "-m", model, "-p", "To be", "-n", "6", "--json", ...more);
      equal(JSON.parse(await say(q)).text, JSON.parse(await say(world.model, "--dtype", "nf4")).text); // biome-ignore format: one line
      const scored = async (model: string, ...more: string[]) =>
      JSON.parse(await run("eval", "-m", model, "-d", data, "--json", ...more)).sets[0].base.loss.value; // biome-ignore format: one line
      is(await scored(q), await scored(world.model, "--dtype", "nf4"));
      is(await scored(q), json.probe.after.loss.value);
      const trained = async (model: string, out: string, ...more: string[]) => {
        await run("train", "-m", model, "-d", data, "-o", out, "--steps", "3", "--length", "16", "--batch", "2", ...more); // biome-ignore format: one line
        return JSON.parse(await run("inspect", out, "--json")).last;
      };
      equal(await trained(q, `${folder}/a`), await trained(world.model, `${folder}/b`, "--dtype", "nf4")); // biome-ignore format: one line
      await trained(q, `${folder}/full`, "--method", "full");
      ok(existsSync(`${folder}/full/model/model.safetensors`));
    }),
);

gpuTest("a wrong call says so before anything is loaded", () =>
  inFolder(async (folder) => {
    const { model } = await tinyWorld(folder);
    const fails = async (args: readonly string[], code: number, ...parts: string[]) => {
      const ended = await inProcess(["quantize", ...args]);
      is(ended.code, code);
      for (const part of parts)
        ok(ended.stderr.includes(part), `"${ended.stderr}" lacks "${part}"`);
    };
    await fails(["-m", model, "-o", `${folder}/q`, "--dtype", "int4"], 2, "--dtype must be one of int8, nf4"); // biome-ignore format: one line
    await fails(["-m", model], 2, "--out");
    await fails(["-m", model, "-o", model, "-d", `${folder}/none.txt`], 1, "apart from");
    await fails(["-m", `${folder}/none`, "-o", `${folder}/q`], 1, "which is not there");
  }),
);

runTests();
