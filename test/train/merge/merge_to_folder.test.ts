// Merged folders: what they compute against the unmerged adapters, the certificate, and that nothing is half written.
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../../src/autograd/graph.ts";
import { loadAdapter } from "../../../src/lora/peft.ts";
import type { CausalLM } from "../../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { tensor } from "../../../src/tensor/create.ts";
import { loadSafetensors, saveSafetensors } from "../../../src/tensor/safetensors_file.ts";
import { mergeToFolder, type WeightedFolder } from "../../../src/train/merge/merge_to_folder.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests } from "../../gpu.ts";
import { tinyWorld, type World } from "../evaluation/tiny_world.ts";

const A = { r: 2, lora_alpha: 3, target_modules: "all-linear" };
const B = { r: 3, target_modules: ["q_proj", "down_proj"] };

async function logits(model: CausalLM): Promise<Float32Array> {
  model.eval();
  const ids = tensor(Int32Array.from({ length: 24 }, (_, i) => (i * 37 + 3) % 200), [2, 12]); // biome-ignore format: one line
  return (await noGrad(() => model.call(ids)).data()) as Float32Array;
}

async function logitsOf(folder: string): Promise<Float32Array> {
  using model = await fromPretrained(folder);
  return logits(model);
}

const largest = (a: ArrayLike<number>, b?: ArrayLike<number>) =>
  Array.from(a).reduce((m, v, i) => Math.max(m, Math.abs(v - (b?.[i] ?? 0))), 0);

const of = (world: World, ...names: [name: string, weight: number][]): WeightedFolder[] =>
  names.map(([name, weight]) => ({ name, weight, folder: world.adapters[name]! }));

async function refused(work: Promise<unknown>, ...parts: string[]): Promise<void> {
  const error = await work.then(() => null, (e: Error) => e); // biome-ignore format: one line
  ok(error, "nothing was thrown");
  for (const part of parts) ok(error.message.includes(part), `"${error.message}" lacks ${part}`);
}

gpuTest(
  "loaded or streamed: the written model computes what the adapter did, and the certificate says so",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: A }, tokenizer: "template" });
      using model = await fromPretrained(world.model);
      await loadAdapter(model, world.adapters.a!);
      const expected = await logits(model);
      const bytes: Uint8Array[] = [];
      for (const stream of [false, true]) {
        const out = `${folder}/out-${stream}`;
        const ends = new Set<string>(); // phases whose progress came to its end
        let phase = "";
        const certificate = await mergeToFolder(world.model, of(world, ["a", 1]), out, {
          stream,
          onPhase: (name) => {
            phase = name;
          },
          onProgress: ({ bytesDone, bytesTotal }) => {
            if (bytesDone === bytesTotal) ends.add(phase);
          },
        });
        equal([...ends], [...(stream ? ["merging tensor by tensor", "loading the base"] : ["loading"]), "checking what was written"]); // biome-ignore format: one line
        const got = await logitsOf(out);
        const scale = largest(expected);
        ok(largest(got, expected) <= 2e-5 * scale, `${largest(got, expected)} of ${scale}`);
        ok(certificate!.maxLogitDifference <= 2e-5 * certificate!.maxLogit);
        equal(JSON.parse(readFileSync(`${out}/merge_certificate.json`, "utf8")), certificate);
        equal(certificate!.adapters, ["a"]);
        is(Object.keys(certificate!.layers).length, stream ? 0 : 14);
        for (const file of ["config.json", "tokenizer.json", "chat_template.jinja"])
          ok(readdirSync(out).includes(file), file);
        bytes.push(readFileSync(`${out}/model.safetensors`));
      }
      equal(bytes[0], bytes[1], "both ways write the same bits");
      equal(
        readdirSync(folder).sort(),
        ["a", "model", "out-false", "out-true"],
        "nothing else is left",
      );
    }),
);

gpuTest(
  "weights: the written model is the base with w times each update; cat is exact, an unlike rank no matter",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: A, b: B } });
      const weights: [string, number][] = [["a", 0.7], ["b", -0.4]]; // biome-ignore format: one line
      await mergeToFolder(world.model, of(world, ...weights), `${folder}/out`);
      using model = await fromPretrained(world.model);
      const lora = await loadAdapter(model, world.adapters.a!, "a");
      await loadAdapter(lora, world.adapters.b!, "b");
      lora.setAdapter(["a", "b"]);
      for (const { adapters } of lora.layers.values())
        for (const [name, w] of weights) {
          const update = adapters.get(name);
          if (update) update.scaling *= w;
        }
      const expected = await logits(model);
      const got = await logitsOf(`${folder}/out`);
      ok(largest(got, expected) <= 3e-5 * largest(expected), `${largest(got, expected)}`);
      await mergeToFolder(world.model, of(world, ["a", 0]), `${folder}/none`);
      const [none, base] = [await logitsOf(`${folder}/none`), await logitsOf(world.model)];
      ok(largest(none, base) <= 1e-6 * largest(base), "weight 0 is the base");
      await mergeToFolder(world.model, of(world, ["a", 1], ["b", 1]), `${folder}/svd`, { combination: "svd", svdRank: 5 }); // biome-ignore format: one line
      const opposite = mergeToFolder(world.model, of(world, ["a", 1], ["b", 1]), `${folder}/x`, { combination: "linear" }); // biome-ignore format: one line
      await refused(opposite, "of one rank for linear");
    }),
);

gpuTest("dtype: rounded once from f32 sums, and the certificate is of what was written", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { adapters: { a: A } });
    const whole = await mergeToFolder(world.model, of(world, ["a", 1]), `${folder}/f32`, {
      dtype: "f32",
    });
    const half = await mergeToFolder(world.model, of(world, ["a", 1]), `${folder}/bf16`, {
      dtype: "bf16",
    });
    ok(half!.maxLogitDifference > 10 * whole!.maxLogitDifference, "the rounding is seen");
    const [exact, rounded] = [await loadSafetensors(`${folder}/f32/model.safetensors`), await loadSafetensors(`${folder}/bf16/model.safetensors`)]; // biome-ignore format: one line
    for (const [name, t] of rounded) {
      const [got, from] = [await t.data(), await exact.get(name)!.data()];
      ok(largest(got, from) <= 2 ** -8 * largest(from), name);
      is(t.dtype, "bf16");
    }
    for (const t of [...exact.values(), ...rounded.values()]) t.dispose();
  }),
);

gpuTest("modules that are saved whole, biases, an adapted embedding that is the head too", () =>
  inFolder(async (folder) => {
    const adapters = {
      biased: { ...B, bias: "all" as const },
      whole: { ...B, modules_to_save: ["norm"] },
      embedded: { r: 2, target_modules: ["embed_tokens"] },
      dora: { ...B, use_dora: true },
    };
    const world = await tinyWorld(folder, { adapters });
    for (const name of Object.keys(adapters)) {
      using model = await fromPretrained(world.model);
      await loadAdapter(model, world.adapters[name]!);
      const expected = await logits(model);
      await mergeToFolder(world.model, of(world, [name, 1]), `${folder}/out-${name}`);
      const got = await logitsOf(`${folder}/out-${name}`);
      ok(largest(got, expected) <= 3e-5 * largest(expected), `${name}: ${largest(got, expected)}`);
    }
    for (const name of ["biased", "whole"])
      await refused(mergeToFolder(world.model, of(world, [name, 0.5]), `${folder}/x`), "must be of updates alone", name); // biome-ignore format: one line
    await refused(
      mergeToFolder(world.model, of(world, ["dora", 0.5]), `${folder}/x`),
      "without DoRA",
    );
    ok(!readdirSync(folder).some((name) => /^x|merging/.test(name)), `${readdirSync(folder)}`);
  }),
);

gpuTest(
  "what is there is not overwritten unless asked, and never what is read or is no model",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: A, b: B } });
      const out = `${folder}/out`;
      const merge = (name: string, to: string, overwrite = false) =>
        mergeToFolder(world.model, of(world, [name, 1]), to, { overwrite, certify: false });
      is(await merge("a", out), null);
      const before = readFileSync(`${out}/model.safetensors`);
      await refused(merge("b", out), "out must be an empty folder, or nothing yet", "overwrite it");
      equal(readFileSync(`${out}/model.safetensors`), before);
      await merge("b", `${out}/`, true);
      ok(Buffer.compare(readFileSync(`${out}/model.safetensors`), before) !== 0);
      for (const to of [world.model, `${world.model}/deeper`, folder, world.adapters.a!])
        await refused(merge("a", to, true), "out must be apart from", "which is read");
      mkdirSync(`${folder}/mine`);
      writeFileSync(`${folder}/mine/letter.txt`, "keep me");
      await refused(merge("a", `${folder}/mine`, true), "the folder of a model, to be overwritten");
      await refused(merge("a", `${folder}/mine/letter.txt`, true), "a folder, or nothing yet");
      is(readFileSync(`${folder}/mine/letter.txt`, "utf8"), "keep me");
      mkdirSync(`${folder}/empty`);
      await merge("a", `${folder}/empty`);
      ok(readdirSync(`${folder}/empty`).includes("model.safetensors"));
    }),
);

gpuTest(
  "an adapter that is not finite, or for another base, and quantised weights: nothing is written, nothing lost",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: A } });
      const out = `${folder}/out`;
      await mergeToFolder(world.model, of(world, ["a", 1]), out, { certify: false });
      const before = readFileSync(`${out}/model.safetensors`);
      const broken = `${folder}/broken`;
      cpSync(world.adapters.a!, broken, { recursive: true });
      const state = await loadSafetensors(`${broken}/adapter_model.safetensors`);
      const [name, t] = [...state][0]!;
      const values = (await t.data()).slice() as Float32Array;
      values[1] = Number.NaN;
      await saveSafetensors(`${broken}/adapter_model.safetensors`, { ...Object.fromEntries(state), [name]: tensor(values, t.shape) }); // biome-ignore format: one line
      for (const stream of [false, true]) {
        const work = mergeToFolder(world.model, [{ name: "x", folder: broken, weight: 1 }], out, { stream, overwrite: true }); // biome-ignore format: one line
        await refused(work, "finite", "infinity or NaN");
      }
      for (const one of state.values()) one.dispose();
      const quantised = `${folder}/q`;
      cpSync(world.model, quantised, { recursive: true });
      const config = JSON.parse(readFileSync(`${quantised}/config.json`, "utf8"));
      writeFileSync(
        `${quantised}/config.json`,
        JSON.stringify({ ...config, quantization_config: { bits: 4 } }),
      );
      await refused(mergeToFolder(quantised, of(world, ["a", 1]), `${folder}/y`), "whose weights are not quantised", "loses most of the adapter"); // biome-ignore format: one line
      equal(readFileSync(`${out}/model.safetensors`), before);
      equal(readdirSync(folder).sort(), ["a", "broken", "model", "out", "q"]);
    }),
);

gpuTest("options that do not go together are refused", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { adapters: { a: A, b: B } });
    const to = `${folder}/out`;
    await refused(mergeToFolder(world.model, [], to), "adapters must be at least one");
    await refused(mergeToFolder(world.model, of(world, ["a", Number.NaN]), to), "the weight of a must be finite"); // biome-ignore format: one line
    for (const names of [[["a", 0.5]], [["a", 1], ["b", 1]]] as [string, number][][]) // biome-ignore format: one line
      await refused(mergeToFolder(world.model, of(world, ...names), to, { stream: true }), "stream must be false, but for one adapter"); // biome-ignore format: one line
    await refused(mergeToFolder(world.model, of(world, ["a", 1]), to, { stream: true, dtype: "f16" }), "stream must be false"); // biome-ignore format: one line
    equal(readdirSync(folder).sort(), ["a", "b", "model"]);
  }),
);

runTests();
