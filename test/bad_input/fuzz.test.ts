// Files from strangers: whatever stands in them, loading ends with a model, or with an error of ours that names
// the file, and leaves what was there as it was. Seeded; a failure tells the seed.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { LowrankError } from "../../src/gpu/errors.ts";
import { loadAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { loadTokenizer } from "../../src/train/text/tokenizer.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";
import { Draw } from "../properties.ts";
import { mutateJson, mutateSafetensors } from "./hostile.ts";

const ROUNDS = Number(process.env.LOWRANK_FUZZ ?? 60);

/** Loads versions of one file of a folder. */
async function fuzz(
  fixture: string,
  file: string,
  load: (folder: string) => Promise<unknown>,
  folderOf = fixtureFolder(fixture),
): Promise<void> {
  await inFolder(async (folder) => {
    cpSync(folderOf, folder, { recursive: true });
    const good = readFileSync(`${folder}/${file}`);
    let refused = 0;
    for (let seed = 0; seed < ROUNDS; seed++) {
      const draw = new Draw(seed);
      const bad = file.endsWith(".json")
        ? mutateJson(draw, good.toString())
        : mutateSafetensors(draw, good);
      writeFileSync(`${folder}/${file}`, bad);
      try {
        await load(folder);
      } catch (error) {
        const { name, message, stack } = error as Error;
        const what = `${fixture}/${file}, seed ${seed}: ${stack?.slice(0, 700)}`;
        ok(error instanceof LowrankError && name !== "LowrankError", what);
        ok(message.includes(file) || message.includes(basename(folder)), `names no file: ${what}`);
        refused++;
      }
    }
    ok(refused > ROUNDS / 8, `${refused} of ${ROUNDS} were refused`);
  });
}

const states = (model: CausalLM) =>
  [...model.namedParameters()].map(([name, p]) => [name, p.requiresGrad, p] as const);

for (const [fixture, base] of [
  ["peft-llama-patterns", "llama-tiny"],
  ["peft-llama-save", "llama-tiny"],
  ["peft-gpt2-dora", "gpt2-tiny"],
] as const) {
  for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
    gpuTest(
      `F5 ${fixture}/${file}: hostile versions are refused, and the model stays`,
      async () => {
        using model = await fromPretrained(fixtureFolder(base));
        const [before, { tensorsLive }] = [states(model), theGpu().stats()];
        await fuzz(fixture, file, async (folder) => {
          try {
            (await loadAdapter(model, folder)).undo();
          } finally {
            equal(states(model).map(([n, g]) => [n, g]), before.map(([n, g]) => [n, g])); // biome-ignore format: one line
            ok(states(model).every(([, , p], i) => p === before[i]![2]));
          }
        });
        is(theGpu().stats().tensorsLive, tensorsLive, "tensors that stay");
      },
    );
  }
}

for (const fixture of ["llama-tiny-bf16", "qwen3-tiny", "gpt2-odd"]) {
  for (const file of ["config.json", "model.safetensors"]) {
    gpuTest(`F5 ${fixture}/${file}: hostile versions are refused`, async () => {
      const { tensorsLive } = theGpu().stats();
      await fuzz(fixture, file, async (folder) => {
        using _ = await fromPretrained(folder);
      });
      is(theGpu().stats().tensorsLive, tensorsLive, "tensors that stay");
    });
  }
}

gpuTest("F5 an index of shards: hostile versions are refused", () =>
  inFolder(async (folder) => {
    cpSync(fixtureFolder("llama-tiny-bf16"), folder, { recursive: true });
    const file = readFileSync(`${folder}/model.safetensors`);
    const { __metadata__: _, ...table } = JSON.parse(
      file.subarray(8, 8 + Number(file.readBigUInt64LE(0))).toString(),
    );
    const shard = "model-00001-of-00001.safetensors";
    const map = Object.fromEntries(Object.keys(table).map((name) => [name, shard]));
    writeFileSync(`${folder}/${shard}`, file);
    writeFileSync(`${folder}/model.safetensors.index.json`, JSON.stringify({ weight_map: map }));
    await import("node:fs/promises").then((fs) => fs.rm(`${folder}/model.safetensors`));
    await fuzz(
      "index",
      "model.safetensors.index.json",
      async (copy) => {
        using _ = await fromPretrained(copy);
      },
      folder,
    );
  }),
);

for (const fixture of ["tokenizer-tiny", "tokenizer-spaces"]) {
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    gpuTest(`F5 ${fixture}/${file}: hostile versions are refused`, () =>
      fuzz(fixture, file, async (folder) => {
        const tokenizer = await loadTokenizer(folder);
        const ids = tokenizer.encode("Hello é 日本 <s>, 12 a b");
        ok(ids.every((id) => Number.isSafeInteger(id) && id >= 0 && id < tokenizer.vocabSize));
        tokenizer.decode(ids, { skipSpecialTokens: true });
      }),
    );
  }
}

runTests();
