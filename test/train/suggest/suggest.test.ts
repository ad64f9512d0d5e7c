// suggest: settings that training takes as they are, for a text, prompts and a memory; no weight is read.
import { readFileSync, writeFileSync } from "node:fs";
import { equal, is, match, ok } from "uvu/assert";
import {
  readConfigFile,
  resolveConfig,
  suggest,
  trainRun,
  writeConfigFile,
} from "../../../src/train/recipe/index.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { gpuTest, runTests, theGpu } from "../../gpu.ts";
import { rejects, writeTinyData } from "../recipe/tiny_recipe.ts";

const inTiny = (body: (folder: string) => Promise<void>) => () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    await body(folder);
  });

const asked = (folder: string, data: object = {}) => ({
  ...{ model: fixtureFolder("llama-tiny"), tokenizer: folder, output: `${folder}/run` },
  data: { train: `${folder}/text.txt`, ...data },
});

gpuTest(
  "a text: trained with what is suggested, a run has the steps, rows and parameters that were foretold",
  inTiny(async (folder) => {
    const before = theGpu().stats();
    theGpu().resetPeak();
    const found = await suggest(asked(folder));
    const { peak } = theGpu().memory().categories.base;
    ok(peak < found.model.base, `no weight is read, only tables of angles are made: ${peak}`);
    equal(theGpu().stats().tensorsLive, before.tensorsLive);
    const { model, data, steps, settings } = found;
    equal([model.layers, model.width, model.context, data.samples], [2, 32, 24, 1]);
    equal([data.length, data.learnt], [24, data.tokens], "the context; a text is learnt whole");
    const file = `${folder}/run.yaml`;
    await writeConfigFile(file, settings, found.choices);
    match(readFileSync(file, "utf8"), /\n {2}lora_alpha: 32 # 2r; alpha and rate/);
    const read = await readConfigFile(file);
    equal(resolveConfig(read), resolveConfig(settings), "the file says the same");
    await rejects(writeConfigFile(file, settings), "ConfigError", "must be one that is not there");
    const json = `${folder}/run.json.json`;
    await writeConfigFile(json, settings);
    equal(await readConfigFile(json), read);
    const run = await trainRun({ ...read, training: { ...(read.training as object), lr: 1e-3 } });
    is(run.config.training.steps, steps);
    is(run.config.training.batch * run.config.training.accumulate, found.rowsPerStep);
    equal(run.parameters.trainable, model.trainable);
    equal(run.parameters.total, model.total);
    equal(run.config.lora, {
      ...{ r: 16, lora_alpha: 32, lora_dropout: 0, target_modules: "all-linear" },
    });
  }),
);

gpuTest(
  "what is asked stays; a small text is named, and so is one that an adapter has no room for",
  inTiny(async (folder) => {
    const small = await suggest(asked(folder));
    is(small.capacity.verdict, "ample");
    match(small.warnings.join("\n"), /text says about 7\d\d? bit.*learn the text by heart/);
    match(small.hints.join("\n"), /--general.*--replay/s);
    is(small.settings.training && (small.settings.training as { lr: unknown }).lr, "auto");
    const words = "abcdefghijklmnopqrstuvwxyz";
    const long = Array.from({ length: 9000 }, (_, i) => words[(i * i + (i >> 4)) % 26]).join("");
    writeFileSync(`${folder}/long.txt`, long);
    const general = `${folder}/general.txt`;
    const given = {
      ...asked(folder, { train: `${folder}/long.txt`, general, length: 16 }),
      lora: { r: 1 },
      training: { epochs: 1, batch: 4, lr: 1e-3 },
    };
    const found = await suggest(given);
    is(found.capacity.verdict, "short");
    match(found.warnings.join("\n"), /cannot learn all of it\. r \d+ would have it/);
    equal(found.settings.training, { ...given.training, eval_every: 13, patience: 3 });
    const { r, lora_alpha, target_modules } = found.settings.lora as Record<string, unknown>;
    equal([r, lora_alpha, target_modules], [1, 2, "all-linear"]);
    const keys = found.choices.map(({ key }) => key);
    ok(!keys.includes("data.length") && !keys.includes("training.epochs"), `${keys}`);
    is(found.hints.some((hint) => hint.startsWith("--general")), false); // biome-ignore format: one line
    is(found.steps, Math.ceil(found.data.rows / 4));
  }),
);

gpuTest(
  "prompts: the longest one fits, or loses its end and is named; only completions count as learnt",
  inTiny(async (folder) => {
    const line = (n: number) =>
      `${JSON.stringify({ prompt: "the quick", completion: ` fox${" jumps".repeat(n)}` })}\n`;
    const train = `${folder}/prompts.jsonl`;
    writeFileSync(train, `${line(0).repeat(30)}${line(1)}`);
    const found = await suggest(asked(folder, { train }));
    is((found.settings.data as { length: number }).length, 24);
    ok(found.data.learnt < found.data.tokens);
    is(found.data.truncated, 0);
    writeFileSync(train, `${line(0).repeat(30)}${line(9)}`);
    const cut = await suggest(asked(folder, { train }));
    is((cut.settings.data as { long: string }).long, "truncate");
    is(cut.data.truncated, 1);
    equal(
      cut.warnings.filter((warning) => /long/.test(warning)),
      ["1 sample cut, as too long"],
    );
  }),
);

gpuTest(
  "a memory: a step is made to fit, or it is said that it does not",
  inTiny(async (folder) => {
    const free = await suggest({ ...asked(folder), lora: { r: 2 } });
    const { total } = free.memory.bytes;
    equal([free.memory.limit, free.memory.fits], [null, true]);
    ok(total < free.memory.full, "an adapter takes less than the whole model");
    const tight = await suggest({ ...asked(folder), lora: { r: 2 } }, { memory: total - 1 });
    ok(tight.memory.fits && tight.memory.bytes.total < total);
    ok(tight.memory.bytes.activations < free.memory.bytes.activations);
    match(tight.choices.map(({ why }) => why).join("\n"), "so that a step fits the memory");
    const never = await suggest(asked(folder), { memory: 1000 });
    is(never.memory.fits, false);
    match(
      never.warnings.join("\n"),
      "a step does not fit that memory: nothing is left to make smaller but the model",
    );
    const full = await suggest({ ...asked(folder), method: "full" }, { memory: 1000 });
    is((full.settings as { base_dtype?: string }).base_dtype, undefined, "what is trained stays wide"); // biome-ignore format: one line
  }),
);

gpuTest(
  "what does not fit is refused as training would refuse it",
  inTiny(async (folder) => {
    const none = suggest({ ...asked(folder), model: "none" });
    await rejects(none, "ConfigError", "config: model must be a folder with config.json");
    const wrong = suggest({ ...asked(folder), training: { lr: -1 } });
    await rejects(wrong, "ConfigError", "config: training.lr must be a number above 0");
    const target = suggest({ ...asked(folder), lora: { target_modules: ["q_prj"] } });
    await rejects(target, "ConfigError", /lora\.target_modules.*q_proj/);
  }),
);

runTests();
