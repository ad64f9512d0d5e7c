// What `inspect` says of a path, against what the library makes of the same files.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { addLora } from "../../../src/lora/lora.ts";
import { loadAdapter } from "../../../src/lora/peft.ts";
import { Conv1D, Embedding, Linear } from "../../../src/nn/layers.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { tensor } from "../../../src/tensor/create.ts";
import { loadSafetensors, saveSafetensors } from "../../../src/tensor/safetensors_file.ts";
import { adapterSpectra } from "../../../src/train/evaluation/spectrum.ts";
import {
  type AdapterFacts,
  inspect,
  inspectAdapter,
  inspectModel,
  type RunFacts,
  type TensorsFacts,
} from "../../../src/train/inspect/index.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { gpuTest, runTests } from "../../gpu.ts";

const MODELS = ["gpt2-tiny", "llama-tiny", "llama-tiny-tied", "llama-tiny-bf16", "qwen2-tiny", "qwen3-tiny", "gemma2-tiny", "smollm3-tiny", "mistral-tiny"]; // biome-ignore format: one line

async function refused(fn: () => Promise<unknown>, ...parts: string[]): Promise<void> {
  const error = await fn().then(() => null, (e: Error) => e); // biome-ignore format: one line
  ok(error, "nothing was thrown");
  is(error.name, "FormatError", error.message);
  for (const part of parts) ok(error.message.includes(part), `"${error.message}" lacks ${part}`);
}

gpuTest(
  "a model: parameters, bytes, and the layers that all-linear means, as the library counts them",
  async () => {
    for (const name of MODELS) {
      const facts = await inspectModel(fixtureFolder(name));
      const model = await fromPretrained(fixtureFolder(name));
      is(facts.problem, null, name);
      is(facts.type, model.modelType);
      is(facts.parameters, model.parameters().reduce((sum, p) => sum + p.size, 0), name); // biome-ignore format: one line
      const embeddings = [...model.namedModules()].filter(([, m]) => m instanceof Embedding);
      const leaves = embeddings.map(([path]) => path.split(".").pop()!);
      equal(facts.embeddings.sort(), leaves.sort(), name);
      const lora = addLora(model, { r: 1, target_modules: "all-linear" });
      const meant = new Map<string, { layers: number; parameters: number }>();
      for (const [path, { base_layer }] of lora.layers) {
        ok(base_layer instanceof Linear || base_layer instanceof Conv1D);
        const leaf = path.split(".").pop()!;
        const { layers, parameters } = meant.get(leaf) ?? { layers: 0, parameters: 0 };
        meant.set(leaf, { layers: layers + 1, parameters: parameters + base_layer.weight.size });
      }
      const found = facts.targets.filter((t) => t.isAllLinear);
      const sums = found.map(({ name, layers, parameters }) => [name, { layers, parameters }]);
      equal(Object.fromEntries(sums as []), Object.fromEntries(meant), name);
      model.dispose();
    }
  },
);

test("a model that cannot be loaded here is told apart, and its tensors are listed all the same", () =>
  inFolder(async (folder) => {
    cpSync(fixtureFolder("llama-tiny"), folder, { recursive: true });
    const config = JSON.parse(readFileSync(`${folder}/config.json`, "utf8"));
    writeFileSync(`${folder}/config.json`, JSON.stringify({ ...config, model_type: "voodoo" }));
    const facts = await inspectModel(folder);
    match(facts.problem!, /model_type of .*config\.json must be one of llama, .* got voodoo/);
    is(facts.targets.length, 8);
  }));

test("a model in shards, of two types", async () => {
  const facts = await inspectModel(fixtureFolder("qwen2-tiny"));
  is(facts.files.length, 3);
  const bf16 = await inspectModel(fixtureFolder("llama-tiny-bf16"));
  ok("BF16" in bf16.types);
  is(
    Object.values(bf16.types).reduce((sum, t) => sum + t.bytes, 0),
    bf16.bytes,
  );
});

for (const [base, name] of [
  ["llama-tiny", "peft-llama-tiny-all-linear"],
  ["gpt2-tiny", "peft-gpt2-tiny"],
  ["llama-tiny", "peft-llama-patterns"],
  ["llama-tiny", "peft-llama-tiny-rslora"],
  ["llama-tiny", "peft-llama-embedding"],
] as const) {
  // biome-ignore format: one line
  gpuTest(`an adapter by itself has the spectra that it has in its model: ${name}`, async () => {
    const facts = await inspectAdapter(fixtureFolder(name));
    const model = await fromPretrained(fixtureFolder(base));
    const lora = await loadAdapter(model, fixtureFolder(name));
    const spectra = await adapterSpectra(lora);
    equal(facts.layers.map((l) => l.path).sort(), [...spectra.keys()].sort());
    for (const { path, r, scaling, spectrum, parameters, kind } of facts.layers) {
      const layer = lora.layers.get(path)!;
      const update = layer.adapters.get("default")!;
      equal([r, scaling], [update.r, update.scaling], path);
      is(parameters, update.lora_A.size + update.lora_B.size);
      is(kind, layer.base_layer instanceof Embedding ? "embedding" : "linear");
      equal(spectrum, spectra.get(path));
    }
    const total = lora.parameters().reduce((sum, p) => sum + p.size, 0);
    const saved = facts.others.filter(({ name }) => name.includes("base_layer.weight"));
    is(facts.parameters - saved.reduce((sum, o) => sum + o.elements, 0), total);
    is(facts.bytes, readFileSync(join(fixtureFolder(name), "adapter_model.safetensors")).length);
    model.dispose();
  });
}

test("what else an adapter holds, and what must be said of its kind", async () => {
  const facts = (name: string) => inspectAdapter(fixtureFolder(name));
  const dora = await facts("peft-llama-dora");
  match(dora.warnings.join(), "DoRA");
  ok(dora.others.every(({ name }) => name.endsWith("lora_magnitude_vector")));
  const pissa = await facts("peft-llama-pissa");
  match(pissa.warnings.join(), "still holds what pissa took out of the base");
  is(pissa.advice, null);
  ok((await facts("peft-gpt2-bias-all")).others.every(({ name }) => name.endsWith("bias")));
  ok((await facts("peft-llama-save")).others.length > 0);
});

/** A copy of a fixture with some of its tensors changed. */
async function changed(
  folder: string,
  change: (name: string, values: Float32Array) => Float32Array | null,
): Promise<void> {
  cpSync(fixtureFolder("peft-llama-tiny"), folder, { recursive: true });
  const file = `${folder}/adapter_model.safetensors`;
  const state = await loadSafetensors(file);
  const kept: [string, ReturnType<typeof tensor>][] = [];
  for (const [name, t] of state) {
    const values = change(name, (await t.data()) as Float32Array);
    if (values) kept.push([name, tensor(values, t.shape)]);
  }
  await saveSafetensors(file, Object.fromEntries(kept));
  for (const t of state.values()) t.dispose();
}

gpuTest("layers that were not trained, and values that are not finite, are warned of by name", () =>
  inFolder(async (folder) => {
    const one = "model.layers.0.self_attn.q_proj";
    await changed(folder, (name, values) => (name.includes(`${one}.lora_B`) ? values.map(() => 0) : values)); // biome-ignore format: one line
    const zero = await inspectAdapter(folder);
    match(zero.warnings.join("\n"), new RegExp(`zero in 1 of \\d+ layers, which were not trained: ${one}`)); // biome-ignore format: one line
    equal(zero.advice!.zeroLayers, [one]);
    await changed(folder, (name, values) => (name.includes("lora_B") ? values.map(() => 0) : values)); // biome-ignore format: one line
    const all = await inspectAdapter(folder);
    match(all.warnings.join("\n"), "zero in all layers");
    is(all.advice!.verdict, "nothing");
    await changed(folder, (name, values) => (name.includes(`${one}.lora_A`) ? values.fill(Number.NaN, 0, 1) : values)); // biome-ignore format: one line
    const broken = await inspectAdapter(folder);
    match(broken.warnings[0]!, `Not finite, so that it cannot be used: ${one}`);
    is(broken.layers.find(({ path }) => path === one)!.spectrum, null);
  }),
);

gpuTest("an A without its B, and a rank that is not the config's, are refused", () =>
  inFolder(async (folder) => {
    await changed(folder, (name, values) => (name.includes("0.self_attn.q_proj.lora_B") ? null : values)); // biome-ignore format: one line
    await refused(() => inspect(folder), "q_proj.lora_B.weight", "alone");
    cpSync(fixtureFolder("peft-llama-tiny"), folder, { recursive: true });
    const config = JSON.parse(readFileSync(`${folder}/adapter_config.json`, "utf8"));
    writeFileSync(`${folder}/adapter_config.json`, JSON.stringify({ ...config, r: 64 }));
    await refused(() => inspect(folder), "of rank 64, as adapter_config.json says");
  }),
);

test("a file of tensors, from its header", async () => {
  const path = join(fixtureFolder("gpt2-tiny"), "model.safetensors");
  const facts = (await inspect(path)) as TensorsFacts;
  equal([facts.kind, facts.bytes, facts.metadata], ["tensors", readFileSync(path).length, { format: "pt" }]); // biome-ignore format: one line
  is(
    facts.tensors.reduce((sum, t) => sum + t.elements, 0),
    facts.elements,
  );
  equal(Object.keys(facts.types), ["F32"]);
});

test("a run: its summary, and how far its records go, a half written line passed over", () =>
  inFolder(async (folder) => {
    const run = { format: 1, config: { model: "m" }, stopped: null };
    writeFileSync(`${folder}/run.json`, JSON.stringify(run));
    const none = (await inspect(folder)) as RunFacts;
    equal([none.last, none.looks, none.adapter], [null, 0, null]);
    const lines = [
      { kind: "step", step: 1, loss: 3 },
      { kind: "valid", step: 1, loss: 4 },
      { kind: "step", step: 2, loss: 2 },
    ].map((event) => JSON.stringify(event));
    writeFileSync(`${folder}/metrics.jsonl`, `${lines.join("\n")}\n{"kind":"st`);
    cpSync(fixtureFolder("peft-llama-tiny"), `${folder}/adapter`, { recursive: true });
    const facts = (await inspect(`${folder}/`)) as RunFacts;
    equal([facts.last, facts.looks], [{ step: 2, loss: 2 }, 1]);
    equal([facts.run, facts.adapter, facts.model], [run, `${folder}/adapter`, null]);
  }));

test("what is no such thing is refused, and what lies below is named", () =>
  inFolder(async (folder) => {
    await refused(() => inspect(`${folder}/none`), "must be a file or folder that is there");
    await refused(() => inspect(folder), "a folder with adapter_config.json, run.json, config.json, got none of them."); // biome-ignore format: one line
    writeFileSync(`${folder}/a.txt`, "x");
    mkdirSync(`${folder}/sweep`);
    writeFileSync(`${folder}/sweep/sweep.json`, "{}");
    await refused(() => inspect(`${folder}/sweep`), "got a sweep. Its trials are runs, such as ", "lowrank report"); // biome-ignore format: one line
    await refused(() => inspect(`${folder}/a.txt`), "a folder, or a .safetensors file, got another file"); // biome-ignore format: one line
    cpSync(fixtureFolder("peft-llama-tiny"), `${folder}/mine`, { recursive: true });
    await refused(() => inspect(folder), `Below it: ${folder}/mine.`);
    writeFileSync(`${folder}/b.safetensors`, "x");
    await refused(() => inspect(`${folder}/b.safetensors`), "is damaged");
  }));

test("long work tells how far it is", async () => {
  const seen: [number, number][] = [];
  const facts = (await inspect(fixtureFolder("peft-llama-tiny"), (done, of) => {
    seen.push([done, of]);
  })) as AdapterFacts;
  equal(seen.at(-1), [facts.layers.length, facts.layers.length]);
});

runTests();
