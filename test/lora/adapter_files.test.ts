// Adapter folders that are damaged, hostile or for another model: refused, and nothing is changed.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { cast } from "../../src/autograd/ops/index.ts";
import { addLora } from "../../src/lora/lora.ts";
import { loadAdapter, peftStateDict, saveAdapter } from "../../src/lora/peft.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { loadSafetensors, saveSafetensors } from "../../src/tensor/safetensors_file.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests } from "../gpu.ts";

const load = (name: string) => fromPretrained(fixtureFolder(name));
const ids = () => tensor(new Int32Array([3, 1, 4, 1, 5, 9]), [1, 6]);
const A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

const LN_F = "base_model.model.transformer.ln_f";

/** A copy of a fixture's folder, to be spoiled. */
async function copyOf(name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  await cp(fixtureFolder(name), folder, { recursive: true });
  return folder;
}

async function edit(folder: string, change: (config: Record<string, unknown>) => void) {
  const file = `${folder}/adapter_config.json`;
  const config = JSON.parse(await readFile(file, "utf8"));
  change(config);
  await writeFile(file, JSON.stringify(config));
}

async function rewrite(folder: string, change: (state: Record<string, Tensor>) => void) {
  const file = `${folder}/adapter_model.safetensors`;
  const state = Object.fromEntries(await loadSafetensors(file));
  change(state);
  await saveSafetensors(file, state, { format: "pt" });
}

interface Spoiled {
  what: string;
  spoil: (folder: string) => Promise<unknown>;
  parts: readonly string[];
  fixture?: string;
  base?: string;
}

const SPOILED: readonly Spoiled[] = [
  {
    what: "a tensor is missing",
    spoil: (f) => rewrite(f, (s) => delete s[A]),
    parts: [
      `, which was made for ../llama-tiny, does not fit the model: missing ${A}. Nothing was changed`,
    ],
  },
  {
    what: "a tensor is unknown",
    spoil: (f) => rewrite(f, (s) => Object.assign(s, { "base_model.model.x": zeros([1]) })),
    parts: ["unknown base_model.model.x"],
  },
  {
    what: "a name climbs out of the model",
    spoil: (f) => rewrite(f, (s) => Object.assign(s, { "../../etc/passwd": zeros([1]) })),
    parts: ["unknown ../../etc/passwd"],
  },
  {
    what: "F6: A is transposed",
    spoil: (f) => rewrite(f, (s) => Object.assign(s, { [A]: zeros([32, 4]) })),
    parts: [`${A} is [32, 4], expected [4, 32]`],
  },
  {
    what: "integers",
    spoil: (f) => rewrite(f, (s) => Object.assign(s, { [B]: zeros([32, 4], "i32") })),
    parts: [`${B} is I32, expected F32, F16 or BF16`],
  },
  {
    what: "the config's rank is another",
    spoil: (f) => edit(f, (c) => Object.assign(c, { r: 8 })),
    parts: [`${A} is [4, 32], expected [8, 32]`],
  },
  {
    what: "the file is cut off",
    spoil: async (f) => {
      const file = `${f}/adapter_model.safetensors`;
      await writeFile(file, (await readFile(file)).subarray(0, -3));
    },
    parts: ["is damaged", "Nothing was loaded"],
  },
  {
    what: "the header claims to be huge",
    spoil: (f) => writeFile(`${f}/adapter_model.safetensors`, new Uint8Array(16).fill(255)),
    parts: ["is damaged: a header of"],
  },
  {
    what: "no weights",
    spoil: (f) => rm(`${f}/adapter_model.safetensors`),
    parts: ["cannot be read"],
  },
  {
    what: "a pickle",
    spoil: async (f) => {
      await rm(`${f}/adapter_model.safetensors`);
      await writeFile(`${f}/adapter_model.bin`, "");
    },
    parts: ["adapter_model.bin, a pickle, whose loading runs code"],
  },
  { what: "no config", spoil: (f) => rm(`${f}/adapter_config.json`), parts: ["cannot be read"] },
  {
    what: "a config that is no JSON",
    spoil: (f) => writeFile(`${f}/adapter_config.json`, "{"),
    parts: ["is not JSON"],
  },
  {
    what: "another kind of adapter",
    spoil: (f) => edit(f, (c) => Object.assign(c, { peft_type: "LOHA" })),
    parts: ["peft_type of", 'must be "LORA", got "LOHA"'],
  },
  {
    what: "an unsupported field",
    spoil: (f) => edit(f, (c) => Object.assign(c, { layer_replication: [[0, 2]] })),
    parts: ["adapter_config.json: layer_replication must be null", "got [[0,2]]"],
  },
  {
    what: "an unsupported way to start",
    spoil: (f) => edit(f, (c) => Object.assign(c, { init_lora_weights: "loftq" })),
    parts: ["init_lora_weights must be true, false, gaussian"],
  },
  {
    what: "an unknown field that says something",
    spoil: (f) => edit(f, (c) => Object.assign(c, { use_magic: true })),
    parts: ["got use_magic. Did you mean use_"],
  },
  {
    what: "contradictory fields",
    spoil: (f) => edit(f, (c) => Object.assign(c, { layers_pattern: "layers" })),
    parts: ["layers_pattern must be given together with layers_to_transform"],
  },
  {
    what: "names of another model",
    spoil: async () => {},
    base: "gpt2-tiny",
    parts: ["target_modules must be a match for at least one linear layer (c_attn"],
  },
  {
    what: "another vocabulary",
    spoil: (f) =>
      rewrite(f, (s) => Object.assign(s, { "base_model.model.lm_head.weight": zeros([70, 32]) })),
    fixture: "peft-llama-save",
    parts: ["base_model.model.lm_head.weight is [70, 32], expected [67, 32]"],
  },
  {
    what: "another base of the same shape",
    spoil: (f) =>
      rewrite(f, (s) =>
        Object.assign(s, { "base_model.model.lm_head.base_layer.weight": zeros([67, 32]) }),
      ),
    fixture: "peft-llama-head",
    parts: ["must be the model's own weights, got others. Was it made for another base?"],
  },
  {
    what: "a bias that stands twice, with other numbers",
    spoil: (f) => rewrite(f, (s) => Object.assign(s, { [`${LN_F}.modules_to_save.bias`]: zeros([32]) })), // biome-ignore format: one line
    fixture: "peft-gpt2-bias-all-save",
    base: "gpt2-tiny",
    parts: [`${LN_F}.modules_to_save.bias in `, `must be ${LN_F}.bias, got others`],
  },
  {
    what: "a bias of another base",
    spoil: (f) => rewrite(f, (s) => Object.assign(s, { [`${LN_F}.original_module.bias`]: zeros([32]) })), // biome-ignore format: one line
    fixture: "peft-gpt2-bias-all-save",
    base: "gpt2-tiny",
    parts: [`${LN_F}.original_module.bias in `, "must be the model's own weights, got others"],
  },
];

for (const { what, spoil, parts, fixture = "peft-llama-tiny", base = "llama-tiny" } of SPOILED) {
  gpuTest(`F5 ${what}: refused`, async () => {
    const folder = await copyOf(fixture);
    const model = await load(base);
    const before = [...model.namedParameters()];
    const trainable = model.trainableParameters().length;
    await spoil(folder);
    for (const target of ["fresh", "adapted"]) {
      const lora = target === "adapted" ? addLora(model) : model;
      let message = "";
      try {
        await loadAdapter(lora as never, folder, "second");
      } catch (error) {
        ok(/^(Format|Value)Error$/.test((error as Error).name), `${error}`);
        message = (error as Error).message;
      }
      for (const part of parts) ok(message.includes(part), `"${message}" lacks ${part}`);
      if (target === "fresh") {
        equal(
          [...model.namedParameters()].map(([n]) => n),
          before.map(([n]) => n),
        );
        ok([...model.namedParameters()].every(([, p], i) => p === before[i]![1]));
        is(model.trainableParameters().length, trainable);
      } else {
        equal((lora as ReturnType<typeof addLora>).adapters, ["default"]);
      }
    }
    model.dispose();
    await rm(folder, { recursive: true });
  });
}

for (const dtype of ["f16", "bf16"] as const) {
  gpuTest(`F7 tensors of ${dtype} are read exactly, as f32`, async () => {
    const folder = await copyOf("peft-llama-tiny");
    const rounded = new Map<string, Float32Array>();
    const state = await loadSafetensors(`${folder}/adapter_model.safetensors`);
    for (const [name, t] of state) {
      state.set(
        name,
        noGrad(() => cast(t, dtype)),
      );
      rounded.set(name, (await state.get(name)!.data()) as Float32Array);
    }
    await saveSafetensors(`${folder}/adapter_model.safetensors`, Object.fromEntries(state));
    const model = await load("llama-tiny");
    const lora = await loadAdapter(model, folder);
    for (const [name, t] of Object.entries(peftStateDict(lora))) {
      is(t.dtype, "f32");
      equal(await t.data(), rounded.get(name), name);
    }
    model.dispose();
    await rm(folder, { recursive: true });
  });
}

gpuTest("several adapters go into folders of their names, and each loads by itself", async () => {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  const model = await load("llama-tiny");
  const lora = await loadAdapter(model, fixtureFolder("peft-llama-tiny"));
  await loadAdapter(lora, fixtureFolder("peft-llama-save"), "second");
  equal(lora.adapters, ["default", "second"]);
  equal(lora.activeAdapters, ["default"]);
  await saveAdapter(lora, folder);
  for (const [own, fixture] of [
    [folder, "peft-llama-tiny"],
    [`${folder}/second`, "peft-llama-save"],
  ] as const) {
    const ours = await readFile(`${own}/adapter_model.safetensors`);
    const theirs = await readFile(`${fixtureFolder(fixture)}/adapter_model.safetensors`);
    ok(ours.equals(theirs), fixture);
  }
  const alone = await load("llama-tiny");
  await loadAdapter(alone, `${folder}/second`);
  lora.setAdapter("second");
  const logits = (m: typeof model) => noGrad(() => m.call(ids())).data();
  equal(await logits(model), await logits(alone), "the name does not matter");
  model.dispose();
  alone.dispose();
  await rm(folder, { recursive: true });
});

runTests();
