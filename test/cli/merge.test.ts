// `lowrank merge`, run as a user runs it.
import { cpSync, existsSync } from "node:fs";
import { equal, is, match, not, ok } from "uvu/assert";
import { weighted } from "../../src/cli/merge.ts";
import { inFolder } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { tinyWorld } from "../train/evaluation/tiny_world.ts";
import { inProcess } from "./command.ts";

const A = { r: 2, target_modules: ["q_proj", "down_proj"] };

gpuTest("folder:weight", () => {
  equal(weighted("out/a:0.7"), { source: "out/a", weight: 0.7 });
  equal(weighted("n=out/a:-1"), { source: "n=out/a", weight: -1 });
  equal(weighted("a:1e-2"), { source: "a", weight: 0.01 });
  for (const plain of ["out/a", "C:\\a", "a:b", "a:"]) equal(weighted(plain), { source: plain, weight: 1 }); // biome-ignore format: one line
});

gpuTest(
  "merges one, several by weight, into another type; then inspect and generate read what it wrote",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: A, b: A } });
      cpSync(world.adapters.a!, `${folder}/run/adapter`, { recursive: true });
      const one = await inProcess([
        "merge",
        "-a",
        `${folder}/run`,
        "--out",
        `${folder}/one`,
        "--quiet",
      ]);
      is(one.code, 0, one.stderr);
      match(one.stdout, /^Merged run into .*one\.\nCertificate: logits moved by at most [\d.e-]+, .* on a probe of 2 × 32 tokens\./); // biome-ignore format: one line
      match(one.stdout, /Of 4 layers the widest bound is that of model\.layers\.\d/);
      not.match(one.stdout, /undefined|NaN|\[object/);
      const both = [
        "merge",
        "-m",
        world.model,
        "-a",
        `${world.adapters.a}:0.7`,
        "-a",
        `${world.adapters.b}:0.3`,
      ];
      const json = await inProcess([...both, "-o", `${folder}/both`, "--dtype", "f16", "--json", "--quiet"]); // biome-ignore format: one line
      is(json.code, 0, json.stderr);
      const { adapters, certificate, out } = JSON.parse(json.stdout);
      equal(
        [adapters.map((x: { weight: number }) => x.weight), out],
        [[0.7, 0.3], `${folder}/both`],
      );
      equal(certificate.adapters, ["a:0.7", "b:0.3"]);
      const inspected = await inProcess(["inspect", `${folder}/one`]);
      match(inspected.stdout, /merged +run; logits moved by at most/);
      const direct = await inProcess([
        "generate",
        "-a",
        `${folder}/run`,
        "-p",
        "Once",
        "-n",
        "6",
        "--json",
      ]);
      const merged = await inProcess([
        "generate",
        "-m",
        `${folder}/one`,
        "-p",
        "Once",
        "-n",
        "6",
        "--json",
      ]);
      is(JSON.parse(merged.stdout).text, JSON.parse(direct.stdout).text);
      const streamed = await inProcess([...both.slice(0, 4), world.adapters.a!, "-o", `${folder}/s`, "--stream", "--no-certificate"]); // biome-ignore format: one line
      is(streamed.code, 0, streamed.stderr);
      match(streamed.stdout, "without a certificate");
      ok(existsSync(`${folder}/s/model.safetensors`) && !existsSync(`${folder}/s/merge_certificate.json`)); // biome-ignore format: one line
    }),
);

gpuTest("what is wrong: exit codes and messages; nothing is written", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { adapters: { a: A } });
    const m = ["merge", "-m", world.model, "-a", world.adapters.a!];
    const out = `${folder}/out`;
    const calls: [string[], number, string][] = [
      [m, 2, "required option '-o, --out <folder>' not specified"],
      [["merge", "-m", world.model, "-o", out], 2, "--adapter must be given"],
      [[...m, "-o", out, "--dtype", "int8"], 2, "--dtype must be one of f32, f16, bf16"],
      [[...m, "-o", out, "--combination", "mean"], 2, "--combination must be one of linear, cat"],
      [[...m, "-o", out, "--combination", "cat"], 2, "--combination must be given for several adapters"],
      [[...m, "-o", out, "--density", "0.5"], 2, "--density must be given with a --combination that prunes, got cat."],
      [[...m, "-a", world.adapters.a!, "-o", out, "--combination", "ties", "--svd-rank", "2"], 2, "--svd-rank must be given with --combination svd or …_svd, got ties."],
      [[...m, "-o", world.model], 1, "out must be apart from"],
      [[...m, "-o", out, "--stream", "--dtype", "f16"], 1, "stream must be false"],
    ]; // biome-ignore format: as a table
    for (const [args, code, message] of calls) {
      const ended = await inProcess(args);
      is(ended.code, code, `${args.join(" ")}\n${ended.stderr}`);
      ok(ended.stderr.includes(message), `${args.join(" ")}: ${ended.stderr}`);
      is(ended.stdout, "");
      ok(!existsSync(out));
    }
  }),
);

runTests();
