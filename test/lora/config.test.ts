// LoraConfig against PEFT: which layers, ranks and scales it means, and what is refused.
import { readFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import {
  completeConfig,
  DEFAULTS,
  type LoraConfig,
  scaleOf,
  UNSUPPORTED,
} from "../../src/lora/config.ts";
import { addLora, planAdapter } from "../../src/lora/lora.ts";
import { nearest } from "../../src/lora/nearest.ts";
import { configFrom } from "../../src/lora/peft_config.ts";
import { fullMatch, toPython } from "../../src/lora/python_regex.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, throwsLike } from "../gpu.ts";

interface Case {
  base: string;
  config: LoraConfig;
  layers?: Record<string, [number, number]>;
  saved?: string[];
  matched?: string[];
  refused?: string;
}

const casesIn = (file: string): Case[] => JSON.parse(readFileSync(fixtureFolder(file), "utf8"));
const load = (name: string) => fromPretrained(fixtureFolder(name));
const QV = { target_modules: ["q_proj", "v_proj"] };

for (const base of ["llama-tiny", "gpt2-tiny"]) {
  gpuTest(
    `M11 ${base}: layers, ranks and scales are PEFT's, and what PEFT refuses is refused`,
    async () => {
      const model = await load(base);
      const before = model.parameters();
      const cases = [...casesIn("lora_config.json"), ...casesIn("target_modules.json")];
      for (const { config, layers, saved, matched, refused } of cases.filter(
        (c) => c.base === base,
      )) {
        const what = JSON.stringify(config);
        if (refused) {
          throwsLike(() => planAdapter(model, config), "ValueError", "lora: ");
          continue;
        }
        const { plan } = planAdapter(model, config);
        const paths = [...plan.targets.keys()];
        equal(paths.sort(), (matched ?? Object.keys(layers!)).sort(), what);
        for (const [path, [r, scaling]] of Object.entries(layers ?? {})) {
          is(plan.targets.get(path)!.r, r, `${what}: rank of ${path}`);
          is(plan.targets.get(path)!.scaling, scaling, `${what}: scale of ${path}`);
        }
        if (saved) equal([...plan.saved.keys()].sort(), saved.sort(), what);
      }
      equal(model.parameters(), before, "planning changes nothing");
      model.dispose();
    },
  );
}

gpuTest("M11: the scale is linear in alpha; rank-stabilised it is √r times as large", () => {
  is(scaleOf(8, 32, false), 2 * scaleOf(8, 16, false));
  is(scaleOf(16, 8, true) / scaleOf(16, 8, false), 4);
});

gpuTest("errors name the field, what is allowed and what is near", async () => {
  const model = await load("llama-tiny");
  const before = model.parameters();
  const refused = (config: object, ...parts: string[]) =>
    throwsLike(() => addLora(model, config as LoraConfig), "ValueError", ...parts);
  refused(
    { lora_alfa: 2 },
    "config must be made of LoraConfig's fields, got lora_alfa. Did you mean lora_alpha?",
  );
  refused(
    { use_qalora: true },
    "use_qalora must be false, the only value that is supported, got true",
  );
  refused({ layer_replication: [[0, 1]] }, "layer_replication must be null", "got [[0,1]]");
  refused({ loftq_config: { loftq_bits: 4 } }, "loftq_config must be {}");
  refused({ trainable_token_indices: [1] }, "trainable_token_indices must be null");
  refused(
    { init_lora_weights: "loftq" },
    "init_lora_weights must be true, false, gaussian",
    "got loftq",
  );
  refused({ r: 2.5 }, "r must be a positive integer, got 2.5");
  refused({ lora_dropout: "0.1" }, "lora_dropout must be in [0, 1)");
  refused({ lora_alpha: "a" }, "lora_alpha must be a finite number");
  refused({ bias: true }, "bias must be none, all or lora_only, got true");
  refused({ use_rslora: 1 }, "use_rslora must be true or false, got 1");
  refused({ target_modules: 3 }, "target_modules must be a list of names");
  refused({ target_modules: ["q_prj"] }, 'got ["q_prj"]. Did you mean q_proj?');
  refused({ target_modules: "q_proj)" }, "target_modules must be a regular expression");
  refused({ target_modules: ["mlp"] }, "made of names of linear layers", "GatedMLP");
  refused({ ...QV, exclude_modules: /.*/ }, "excluded by exclude_modules");
  refused({ ...QV, modules_to_save: ["lm_hed"] }, "got lm_hed. The nearest name is lm_head");
  refused({ ...QV, modules_to_save: ["mlp"] }, "made of names of plain layers");
  refused(
    { ...QV, rank_pattern: { q_proj: 0.5 } },
    'rank_pattern["q_proj"] must be a positive integer',
  );
  refused(
    { ...QV, alpha_pattern: { q_proj: "x" } },
    'alpha_pattern["q_proj"] must be a finite number',
  );
  refused({ ...QV, rank_pattern: [1] }, "rank_pattern must be an object");
  refused({ ...QV, layers_to_transform: [-1] }, "layers_to_transform must be indices of layers");
  refused({ ...QV, layers_to_transform: 9 }, "layers_to_transform");
  refused(
    { target_modules: "all-linear", layers_to_transform: 0 },
    "layers_to_transform must be absent",
  );
  equal(model.parameters(), before);
  ok(
    before.every((p) => p.requiresGrad || p.dtype !== "f32"),
    "nothing was frozen",
  );
  model.dispose();
});

/** The keys that PEFT 0.21 writes. */
const WRITTEN = Object.keys(
  JSON.parse(readFileSync(fixtureFolder("peft-llama-tiny/adapter_config.json"), "utf8")),
);

gpuTest(
  "each field that PEFT writes is supported, says nothing of the result, or is refused by name",
  () => {
    const silent = ["auto_mapping", "inference_mode", "peft_type", "peft_version"];
    const beside = ["megatron_core", "qalora_group_size"]; // of fields that are refused
    const odd: Record<string, unknown> = { ensure_weight_tying: true, use_qalora: true };
    const refused: string[] = [];
    for (const key of WRITTEN) {
      if (silent.includes(key) || key in DEFAULTS) continue;
      const value = beside.includes(key) ? "megatron" : (odd[key] ?? { any: 1 });
      const json = { peft_type: "LORA", target_modules: ["q_proj"], [key]: value };
      if (beside.includes(key)) configFrom("f", json);
      else throwsLike(() => configFrom("f", json), "FormatError", `loadAdapter: f: ${key} must be`);
      if (!beside.includes(key)) refused.push(key);
    }
    equal([...refused, ...beside].sort(), Object.keys(UNSUPPORTED).sort());
    const text = readFileSync(new URL("../../docs/lora.md", import.meta.url), "utf8");
    const listed = WRITTEN.filter((key) => !text.includes(`\`${key}\``));
    equal(listed, [], "fields that docs/lora.md passes over");
  },
);

gpuTest("a model of a family without a default must be told", async () => {
  const model = await load("llama-tiny");
  const other = Object.assign(Object.create(model), { modelType: "own" });
  throwsLike(() => planAdapter(other, {}), "ValueError", "given, for there is no default for own");
  model.dispose();
});

gpuTest("regular expressions are Python's", () => {
  const match = (expression: string | RegExp, text: string) => fullMatch("x", expression)(text);
  ok(match("(?P<a>q|v)_proj(?P=a)", "q_projq"));
  ok(!match("(?P<a>q|v)_proj(?P=a)", "q_projv"));
  ok(match("\\Aq.*\\Z", "q_proj"));
  ok(match("(?i)Q_PROJ", "q_proj"));
  ok(!match("q_proj", "a.q_proj"), "the whole text");
  ok(!match("q|v", "qv"), "alternatives are grouped");
  ok(match(/.*\.Q/i, "a.q"));
  is(toPython(/(?<n>a)\k<n>(?<=b)(?<!c)/i), "(?i)(?P<n>a)(?P=n)(?<=b)(?<!c)");
});

gpuTest("the nearest name", () => {
  is(nearest("use_rlora", ["use_dora", "use_rslora", "r"]), "use_rslora");
  is(nearest("Q_proj", ["k_proj", "q_proj"]), "q_proj");
  equal(completeConfig({ r: undefined as never }).r, 8);
});

for (const init of [true, false, "gaussian"] as const) {
  gpuTest(`init_lora_weights: ${init} starts as in PEFT`, async () => {
    manualSeed(3);
    const model = await load("llama-tiny");
    const r = 4;
    const lora = addLora(model, { r, init_lora_weights: init, target_modules: "all-linear" });
    const A: number[] = [];
    const B: number[] = [];
    for (const { active, sizes } of lora.layers.values()) {
      const bound = Math.sqrt(sizes.in);
      A.push(
        ...(await active[0]!.lora_A.data()).map((v) => (init === "gaussian" ? v * r : v * bound)),
      );
      B.push(...(await active[0]!.lora_B.data()));
    }
    // Deviations of the law: normal of deviation 1, or uniform in ±1, whose deviation is 1/√3.
    const moments = (v: number[]) =>
      [1, 2, 4].map((k) => v.reduce((s, x) => s + x ** k, 0) / v.length);
    const [mean, square, fourth] = moments(A) as [number, number, number];
    const [second, kurtosis] = init === "gaussian" ? [1, 3] : [1 / 3, 1 / 5];
    const n = A.length;
    ok(Math.abs(mean) < 4 * Math.sqrt(second / n), `mean ${mean}`);
    ok(Math.abs(square - second) < 4 * Math.sqrt((kurtosis - second ** 2) / n), `square ${square}`);
    ok(Math.abs(fourth / kurtosis - 1) < 0.2, `fourth moment ${fourth}, expected ${kurtosis}`);
    is(
      B.some((v) => v !== 0),
      init === false,
    );
    model.dispose();
  });
}

runTests();
