// Configurations: what is refused and how it is said, what is filled in, files and settings.
import { writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import {
  allKeys,
  armOf,
  ConfigError,
  loraConfigOf,
  METHODS,
  parseValue,
  readConfigFile,
  resolveConfig,
  withSettings,
} from "../../../src/train/recipe/index.ts";
import { inFolder } from "../../child.ts";
import { rejects } from "./tiny_recipe.ts";

const good = { model: "m", output: "o", data: { train: "x.txt" } };
const data = (fields: object) => ({ ...good, data: { ...good.data, ...fields } });
const training = (fields: object) => ({ ...good, training: fields });
const lora = (fields: object, more: object = {}) => ({ ...good, ...more, lora: fields });

function messageOf(raw: unknown, origin = {}): string {
  try {
    resolveConfig(raw, origin);
  } catch (error) {
    ok(error instanceof ConfigError, `${error}`);
    return error.message;
  }
  throw new Error(`taken: ${JSON.stringify(raw)}`);
}

test("of several methods full fine-tuning gets a tenth of the rate, as people write it", () => {
  const rates = [1e-3, 3e-3, 2e-4, 7e-5].map((lr) => armOf({ training: { lr } }, "full", ["lora", "full"]).training); // biome-ignore format: one line
  equal(rates, [{ lr: 1e-4 }, { lr: 3e-4 }, { lr: 2e-5 }, { lr: 7e-6 }]);
});

test("what is wrong is told by path, with what was expected and what came", () => {
  const cases: [unknown, string][] = [
    [
      null,
      "config: the configuration must be a section with model, output, data, training, lora, got null.",
    ],
    [{}, "config: model must be a folder, or org/name of the hub, got nothing."],
    [{ ...good, data: undefined }, "config: data must be a section with train, and perhaps"],
    [{ ...good, model: 3 }, "config: model must be a folder, or org/name of the hub, got 3."],
    [{ ...good, seed: -1 }, "config: seed must be an integer of at least 0, got -1."],
    [
      { ...good, resume: "maybe" },
      'config: resume must be true, false or if-present, got "maybe".',
    ],
    [
      { ...good, method: "lorra" },
      'config: method must be one of lora, dora, rslora, lora+, lora-fa, pissa, olora, full, got "lorra".',
    ],
    [
      { ...good, base_dtype: "f8" },
      "config: base_dtype must be one of auto, f32, f16, bf16, int8, nf4",
    ],
    [data({ train: [] }), "config: data.train must be a path, or a list of paths, got []."],
    [
      data({ train: ["a", 3] }),
      'config: data.train must be a path, or a list of paths, got ["a",3].',
    ],
    [data({ valid: 1 }), "config: data.valid must be a number between 0 and 1, got 1."],
    [data({ valid: -0.1 }), "config: data.valid must be a number between 0 and 1, got -0.1."],
    [
      data({ replay: { share: 0.5 } }),
      'config: data.replay must be a section with either data or self: true, got "neither".',
    ],
    [
      data({ replay: { data: "x.txt", self: true } }),
      'config: data.replay must be a section with either data or self: true, got "both".',
    ],
    [
      data({ augment: { mixing: 2 } }),
      "config: data.augment.mixing must be a number above 0 and at most 1, got 2.",
    ],
    [
      data({ augment: { mixing: 0.5 }, rows: "padded" }),
      "config: data.augment.mixing must be absent unless data.rows is packed, got 0.5.",
    ],
    [data({ length: 0 }), "config: data.length must be a positive integer, got 0."],
    [
      data({ rows: "pack" }),
      'config: data.rows must be one of packed, padded, windows, got "pack".',
    ],
    [
      data({ replay: { data: "g", share: 1 } }),
      "config: data.replay.share must be a number between 0 and 1, got 1.",
    ],
    [training({ lr: 0 }), "config: training.lr must be a number above 0, got 0."],
    [
      training({ lr: "fast" }),
      'config: training.lr must be a number above 0, or auto, got "fast".',
    ],
    [training({ steps: 1.5 }), "config: training.steps must be a positive integer, got 1.5."],
    [training({ warmup: -1 }), "config: training.warmup must be a number of at least 0, got -1."],
    [training({ capture: "no" }), 'config: training.capture must be true or false, got "no".'],
    [
      training({ schedule: "step" }),
      "config: training.schedule must be one of cosine, linear, constant",
    ],
    [lora({ r: 0 }), "config: lora.r must be a positive integer, got 0."],
    [lora({ lora_dropout: 1 }), "config: lora.lora_dropout must be in [0, 1), got 1."],
  ];
  for (const [raw, expected] of cases) {
    const message = messageOf(raw);
    ok(message.startsWith(expected), `${message}\n${expected}`);
  }
});

test("unknown keys are refused with the nearest name, before what is missing for them", () => {
  const cases: [unknown, string, string][] = [
    [{ output: "o", data: good.data, modle: "m" }, "modle", "model"],
    [data({ lenght: 3 }), "data.lenght", "length"],
    [data({ replay: { shar: 0.1 } }), "data.replay.shar", "share"],
    [training({ learning_rat: 1 }), "training.learning_rat", ""],
    [training({ epoch: 1 }), "training.epoch", "epochs"],
    [lora({ lora_alfa: 1 }), "lora.lora_alfa", "lora_alpha"],
  ];
  for (const [raw, key, nearest] of cases) {
    const message = messageOf(raw);
    ok(message.startsWith(`config: ${key} must be `), message);
    match(message, `Did you mean ${nearest}`);
  }
});

test("contradictions are refused", () => {
  const cases: [unknown, string][] = [
    [
      training({ steps: 1, epochs: 1 }),
      "training.epochs must be absent where training.steps is given",
    ],
    [
      training({ loraplus_lr_ratio: 4 }),
      "training.loraplus_lr_ratio must be absent unless method is lora+",
    ],
    [
      training({ steps: 20, warmup: 21 }),
      "training.warmup must be at most training.steps, 20, or a share of them below 1",
    ],
    [
      training({ min_delta: 0.1 }),
      "training.min_delta must be absent, or beside training.patience",
    ],
    [
      { ...good, method: "full", base_dtype: "f16" },
      "base_dtype must be auto or f32 with method full",
    ],
    [
      { ...good, method: "pissa", base_dtype: "nf4" },
      "base_dtype must be auto, f32, f16 or bf16 with method pissa, which changes the base's weights",
    ],
    [
      lora({ use_dora: true }),
      "lora.use_dora must be false, for method is lora, got true. There is method dora.",
    ],
    [
      lora({ use_rslora: false }, { method: "rslora" }),
      "lora.use_rslora must be true, for method is rslora",
    ],
    [
      lora({ init_lora_weights: "pissa" }),
      "lora.init_lora_weights must be true, false or gaussian",
    ],
    [
      lora({ init_lora_weights: true }, { method: "olora" }),
      "lora.init_lora_weights must be a kind of olora",
    ],
    [
      lora({ target_modules: "all-linear", layers_to_transform: [0] }),
      "lora.layers_to_transform must be absent",
    ],
  ];
  for (const [raw, expected] of cases) match(messageOf(raw), `config: ${expected}`);
});

test("messages name the file, and the flag of a value that a flag set", () => {
  const origin = { file: "run.yaml", flags: { "training.lr": "--lr" } };
  match(messageOf(training({ lr: -1 }), origin), "config: training.lr (--lr) must be");
  match(messageOf(training({ steps: -1 }), origin), "config: training.steps (run.yaml) must be");
});

test("r, alpha and targets have their usual values, and each method its fields", () => {
  const { lora_alpha, r, target_modules } = loraConfigOf(resolveConfig(good));
  equal({ lora_alpha, r, target_modules }, { lora_alpha: 32, r: 16, target_modules: "all-linear" });
  is(loraConfigOf(resolveConfig(lora({ r: 3 }))).lora_alpha, 6);
  is(loraConfigOf(resolveConfig(lora({ lora_alpha: 5 }))).lora_alpha, 5);
  for (const method of METHODS) {
    const config = loraConfigOf(resolveConfig({ ...good, method }));
    is(config.use_dora ?? false, method === "dora");
    is(config.use_rslora ?? false, method === "rslora");
    const starts = `${config.init_lora_weights ?? method}`;
    is(starts.split("_")[0], method);
  }
});

test("steps that are set take the place of epochs, and the other way round; both are refused", () => {
  const of = (raw: object, settings: object) => withSettings(raw, { ...settings }).training;
  equal(of(training({ epochs: 3 }), { "training.steps": 5 }), { steps: 5 });
  equal(of(training({ steps: 5 }), { "training.epochs": 3 }), { epochs: 3 });
  const both = { "training.epochs": 3, "training.steps": 5 };
  match(messageOf(withSettings(good, both)), "training.epochs must be absent where training.steps");
});

test("settings at dotted paths leave the original alone, and unknown paths are refused", () => {
  const before = structuredClone(good);
  const changed = withSettings(good, {
    "training.lr": 1,
    "lora.r": 2,
    "data.valid": undefined,
    seed: 3,
  });
  equal(changed, { ...good, training: { lr: 1 }, lora: { r: 2 }, seed: 3 });
  equal(good, before);
  let message = "";
  try {
    withSettings(good, { "training.lrr": 1 });
  } catch (error) {
    message = (error as Error).message;
  }
  match(
    message,
    'config: training.lrr must be the path of a key, got "training.lrr". Did you mean training.lr?',
  );
  for (const key of ["model", "data.replay.share", "training.steps"])
    ok(allKeys().includes(key), key);
});

test("files are YAML or JSON; errors name file and line", () =>
  inFolder(async (folder) => {
    const file = (name: string, text: string) => {
      writeFileSync(`${folder}/${name}`, text);
      return `${folder}/${name}`;
    };
    const yaml = file("a.yaml", "model: m # here\ntraining: {lr: 1e-3}\n");
    equal(await readConfigFile(yaml), { model: "m", training: { lr: 1e-3 } });
    equal(await readConfigFile(file("a.json", '{"model": "m"}')), { model: "m" });
    const bad: [string, string | RegExp][] = [
      [file("bad.yaml", "model: m\ndata: [a\n"), /bad\.yaml, line \d: /],
      [file("twice.yaml", "model: m\nmodel: n\n"), /twice\.yaml, line 2: .*unique/],
      [file("list.yaml", "- a\n"), /list\.yaml must be a file of keys and values, got \["a"\]/],
      [file("empty.yaml", ""), /empty\.yaml must be a file of keys and values, got null/],
      [
        `${folder}/none.yaml`,
        /none\.yaml must be a file that can be read, got ENOENT: no such file or directory\.$/,
      ],
    ];
    for (const [path, expected] of bad)
      await rejects(readConfigFile(path), "ConfigError", expected);
  }));

test("values of the command line are YAML's", async () => {
  const cases: [string, unknown][] = [
    ["1e-3", 1e-3],
    ["true", true],
    ["[a, b]", ["a", "b"]],
    ["all-linear", "all-linear"],
    ["[a", "[a"],
  ];
  for (const [text, value] of cases) equal(await parseValue(text), value);
});

test.run();
