// Models on int8 and NF4 bases: loading, adapters on them, and what such a base refuses.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addDecomposedLora, addLora, type Lora } from "../../src/lora/lora.ts";
import { loadAdapter, saveAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { Conv1D, Linear, TurnedConv1D } from "../../src/nn/layers.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { parameter, tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { QUANTIZED_TYPES, quantizeValues } from "../../src/tensor/quantized.ts";
import { loadSafetensors, saveSafetensors } from "../../src/tensor/safetensors_file.ts";
import { scope } from "../../src/tensor/scope.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, throwsLike } from "../gpu.ts";
import { logits, train } from "./variants.ts";

const BASES = ["gpt2-tiny", "llama-tiny", "llama-tiny-bf16"];

/** [columns, rows] of [rows, columns]. */
function turned(values: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
}

/** The model in f32 with the values that the quantised one stands for. */
async function wideTwin(base: string, narrow: CausalLM): Promise<CausalLM> {
  const wide = await fromPretrained(fixtureFolder(base), { dtype: "f32" });
  for (const [path, layer] of narrow.namedModules()) {
    if (!(layer instanceof Linear) || path === "lm_head") continue;
    const own = wide.module(path) as Linear | Conv1D;
    const values = (await layer.weight.data()) as Float32Array;
    const [out, inner] = layer.weight.shape as [number, number];
    const isTurned = own instanceof Conv1D;
    const as = isTurned ? turned(values, out, inner) : values;
    own.weight.dispose();
    own.weight = parameter(tensor(as, isTurned ? [inner, out] : [out, inner])).persist();
  }
  return wide;
}

async function gradients(model: CausalLM, lora: Lora): Promise<Float32Array[]> {
  using _ = scope();
  const ids = (step: number) =>
    tensor(
      Int32Array.from({ length: 22 }, (_, i) => (i * step + 5) % 67),
      [2, 11],
    );
  backward(model.loss(ids(13), ids(7)));
  const found = await Promise.all(lora.parameters().map((p) => p.grad!.data()));
  model.zeroGrad();
  return found as Float32Array[];
}

async function rejects(promise: Promise<unknown>, part: string): Promise<void> {
  const message = await promise.then(
    () => "nothing was thrown",
    (error: Error) => `${error.name}: ${error.message}`,
  );
  ok(message.includes(part), `"${message}" lacks "${part}"`);
}

for (const type of QUANTIZED_TYPES) {
  for (const base of BASES) {
    gpuTest(
      `${type}: ${base} loads with linear layers quantised and all else as it was`,
      async () => {
        const stored = await loadSafetensors(`${fixtureFolder(base)}/model.safetensors`);
        const seen: number[] = [];
        const model = await fromPretrained(fixtureFolder(base), {
          quantize: type,
          onProgress: ({ bytesDone, bytesTotal }) => seen.push(bytesDone / bytesTotal),
        });
        is(seen.at(-1), 1);
        for (const [name, p] of model.stateDict()) {
          const t = stored.get(name) ?? stored.get(name.slice(model.bodyPrefix.length))!;
          const owner = model.module(name.replace(/\.\w+$/, ""));
          const isLinear = owner instanceof Linear && name !== "lm_head.weight" && p.rank === 2;
          is(p.dtype, isLinear ? type : p.rank === 1 ? "f32" : t.dtype, name);
          if (!isLinear) {
            equal(await p.data(), await t.data(), name);
            continue;
          }
          ok(!p.requiresGrad, `${name} is frozen`);
          const values = (await t.data()) as Float32Array;
          const [rows, columns] = t.shape as [number, number];
          const isTurned = owner instanceof TurnedConv1D;
          equal([...p.shape], isTurned ? [columns, rows] : [rows, columns], name);
          const as = isTurned ? turned(values, rows, columns) : values;
          equal(await p.rawBytes(), quantizeValues(as, p.shape, type), name);
        }
        for (const t of stored.values()) t.dispose();
        model.dispose();
      },
    );
  }
}

const VARIANTS: readonly [string, LoraConfig][] = [
  ["LoRA", {}],
  ["rsLoRA", { use_rslora: true }],
  ["DoRA", { use_dora: true }],
  ["DoRA with dropout", { use_dora: true, lora_dropout: 0.2 }],
];

for (const type of QUANTIZED_TYPES) {
  for (const base of ["gpt2-tiny", "llama-tiny"]) {
    for (const [name, config] of VARIANTS) {
      gpuTest(
        `M1 M2 M3 M4 M5 F4 ${name} on ${base} of ${type}: from the first step to the file and back`,
        async () => {
          manualSeed(2);
          const load = () => fromPretrained(fixtureFolder(base), { quantize: type });
          const model = await load();
          model.eval();
          const before = await logits(model);
          const own = model.parameters();
          const bytes = await Promise.all(own.map((p) => p.rawBytes()));
          const wide = await wideTwin(base, model);
          close(await logits(wide.eval()), before, 1e-5, "computes what its levels stand for");

          const all: LoraConfig = { target_modules: "all-linear", r: 4, lora_alpha: 8, ...config };
          const lora = addLora(model, all);
          close(await logits(model), before, 1e-5, "M1: the first step computes the base");
          const losses = await train(model.train(), lora, 20);
          ok(losses.at(-1)! < 0.9 * losses[0]!, `the loss falls: ${losses[0]} to ${losses.at(-1)}`);
          const trained = await logits(model.eval());
          lora.disable();
          equal(await logits(model), before, "M4: disabled");
          lora.enable();
          equal(await logits(model), trained, "M4: enabled again");

          const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
          await saveAdapter(lora, folder);
          const file = JSON.parse(await readFile(`${folder}/adapter_config.json`, "utf8"));
          is(file.fan_in_fan_out, base === "gpt2-tiny", "as for the model that PEFT adapts");
          const twin = await loadAdapter(wide, folder);
          close(await logits(wide.eval()), trained, 1e-5, "the adapter is an ordinary one");
          const [narrow, reference] = [await gradients(model, lora), await gradients(wide, twin)];
          is(narrow.length, lora.parameters().length);
          for (const [i, g] of narrow.entries()) close(g, reference[i]!, 1e-4, `M3: gradient ${i}`);
          twin.merge();
          close(await logits(wide), trained, 1e-5, "M5: merged into the base's values");

          const again = await load();
          const loaded = await loadAdapter(again, folder);
          close(await logits(again.eval()), trained, 1e-5, "F4: loaded");
          manualSeed(9);
          const on = await train(model.train(), lora, 3);
          manualSeed(9);
          close(await train(again.train(), loaded, 3), on, 1e-5, "continued");

          lora.remove();
          equal(await logits(model.eval()), before, "removed");
          for (const [i, p] of model.parameters().entries()) {
            equal(await p.rawBytes(), bytes[i], "M2: the base's bytes");
          }
          for (const m of [wide, again, model]) m.dispose();
          await rm(folder, { recursive: true });
        },
      );
    }
  }
}

gpuTest(
  "adapters trained in one batch over an NF4 base: each row is what it is alone",
  async () => {
    manualSeed(3);
    const model = await fromPretrained(fixtureFolder("llama-tiny"), { quantize: "nf4" });
    const lora = addLora(model, { r: 4, target_modules: "all-linear" }, "a");
    lora.addAdapter("b", { r: 2, target_modules: ["q_proj", "down_proj"] });
    const alone: Float32Array[] = [];
    for (const name of ["a", "b"]) {
      lora.setAdapter(name);
      await train(model.train(), lora, 3);
      alone.push(await logits(model.eval()));
    }
    const half = alone[0]!.length / 2;
    const ids = Int32Array.from({ length: 22 }, (_, i) => (i * 13 + 5) % 67);
    lora.setAdapter(["a", "b"]);
    const mixed = lora.withAdapterNames(["a", "b"], () => model.call(tensor(ids, [2, 11])));
    const values = (await mixed.data()) as Float32Array;
    close(values.slice(0, half), alone[0]!.slice(0, half), 1e-5, "the row of a");
    close(values.slice(half), alone[1]!.slice(half), 1e-5, "the row of b");
    model.dispose();
  },
);

gpuTest("what a quantised base cannot do is refused, and nothing is changed", async () => {
  const source = fixtureFolder("gpt2-tiny");
  await rejects(
    fromPretrained(source, { quantize: "int4" as "int8" }),
    "ValueError: load: quantize must be one of int8, nf4, got int4",
  );
  const model = await fromPretrained(source, { quantize: "nf4" });
  await rejects(
    addDecomposedLora(model, { init_lora_weights: "pissa", r: 2 }),
    "init_lora_weights must be true, false or gaussian, for transformer.h.0.attn.c_attn is held as nf4",
  );
  throwsLike(
    () => addLora(model, { target_modules: ["c_fc"], modules_to_save: ["c_proj"] }),
    "ValueError",
    "modules_to_save must be made of names of layers that are not quantised",
  );
  const lora = addLora(model, { r: 2, target_modules: ["c_attn", "wte"] });
  const before = await logits(model.eval());
  const merging = "must be f32, f16 or bf16, got nf4";
  throwsLike(() => lora.merge(), "DTypeError", merging);
  throwsLike(() => lora.mergeAndUnload(), "DTypeError", merging);
  await rejects(lora.mergeSafely(), merging);
  is(model.lm_head, null, "the head is still tied");
  equal(await logits(model), before);
  lora.remove();
  model.dispose();
});

gpuTest("a checkpoint whose weights are not finite is not quantised", async () => {
  const { cp } = await import("node:fs/promises");
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  await cp(fixtureFolder("llama-tiny"), folder, { recursive: true });
  const file = `${folder}/model.safetensors`;
  const state = await loadSafetensors(file);
  const name = "model.layers.0.mlp.up_proj.weight";
  const values = (await state.get(name)!.data()) as Float32Array;
  values[7] = Number.NaN;
  state.set(name, tensor(values, state.get(name)!.shape));
  await saveSafetensors(file, Object.fromEntries(state));
  await rejects(
    fromPretrained(folder, { quantize: "int8" }),
    `load ${name}: the values must be finite, got infinity or NaN`,
  );
  await rm(folder, { recursive: true });
});

runTests();
