// DoRA, PiSSA, OLoRA, rsLoRA, lora_bias: what must hold for each kind of adapter.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, ok } from "uvu/assert";
import type { LoraConfig } from "../../src/lora/config.ts";
import { columnsOf, dot, rowsOf } from "../../src/lora/linalg.ts";
import { addDecomposedLora, addLora } from "../../src/lora/lora.ts";
import { loadAdapter, peftStateDict, saveAdapter } from "../../src/lora/peft.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, throwsLike } from "../gpu.ts";
import { doraNorm } from "../reference/dora_norm.ts";

const load = (name: string) => fromPretrained(fixtureFolder(name));

import { logits, train } from "./variants.ts";

gpuTest("M15 DoRA: magnitudes start as row norms, and merged rows have their lengths", async () => {
  manualSeed(4);
  const model = await load("gpt2-tiny");
  const lora = addLora(model, { r: 4, use_dora: true, target_modules: "all-linear" });
  const norms = async (weight: Tensor, transposed: boolean) => {
    const [rows, columns] = transposed ? [...weight.shape].reverse() : weight.shape;
    const n = { in: columns!, out: rows!, r: 1 };
    return doraNorm(
      await weight.data(),
      new Float64Array(n.in),
      new Float64Array(n.out),
      n,
      1,
      transposed,
    );
  };
  for (const [path, layer] of lora.layers) {
    const m = await layer.active[0]!.lora_magnitude_vector!.data();
    close(m, await norms(layer.weight, layer.transposed), 1e-6, `${path} at the start`);
  }
  await train(model, lora, 10);
  lora.merge();
  for (const [path, layer] of lora.layers) {
    const m = await layer.active[0]!.lora_magnitude_vector!.data();
    close(await norms(layer.base_layer.weight, layer.transposed), m, 1e-5, `${path} merged`);
  }
  model.dispose();
});

for (const init of ["pissa", "olora"] as const) {
  gpuTest(
    `M16 ${init}: factors, orthonormality, and the plain adapter of twice the rank`,
    async () => {
      manualSeed(6);
      const r = 3;
      const model = await load("llama-tiny");
      const before = await logits(model.eval());
      const config = { r, lora_alpha: 6, target_modules: "all-linear", init_lora_weights: init };
      const lora = await addDecomposedLora(model, config);
      for (const [path, { active, sizes }] of lora.layers) {
        const { lora_A, lora_B } = active[0]!;
        const B = columnsOf(await lora_B.data(), sizes.out, r);
        const A = rowsOf(await lora_A.data(), r, sizes.in);
        for (let i = 0; i < r; i++) {
          for (let j = 0; j < i; j++) {
            const cosine = (M: Float64Array[]) =>
              dot(M[i]!, M[j]!) / Math.sqrt(dot(M[i]!, M[i]!) * dot(M[j]!, M[j]!));
            ok(Math.abs(cosine(B)) < 1e-5, `${path}: columns of B`);
            if (init === "pissa") ok(Math.abs(cosine(A)) < 1e-5, `${path}: rows of A`);
          }
          const [a, b] = [Math.sqrt(dot(A[i]!, A[i]!)), Math.sqrt(dot(B[i]!, B[i]!))];
          if (init === "pissa") ok(Math.abs(a / b - 1) < 1e-5, `${path}: equal shares`);
          else ok(Math.abs(b - 1) < 1e-5, `${path}: unit columns`);
        }
      }
      await train(model, lora, 10);
      const trained = await logits(model.eval());
      const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
      await saveAdapter(lora, folder, { convert: true });
      const saved = JSON.parse(await readFile(`${folder}/adapter_config.json`, "utf8"));
      equal([saved.r, saved.lora_alpha, saved.init_lora_weights], [2 * r, 12, true]);
      const plain = await load("llama-tiny");
      await loadAdapter(plain, folder);
      close(await logits(plain.eval()), trained, 1e-5, "converted");
      plain.dispose();
      lora.mergeAndUnload();
      close(await logits(model), trained, 1e-5, "merged for good");
      ok(trained.some((v, i) => Math.abs(v - before[i]!) > 0.1));
      model.dispose();
      await rm(folder, { recursive: true });
    },
  );
}

gpuTest("contradictions of the variants are refused", async () => {
  const model = await load("gpt2-tiny");
  const pissa = { init_lora_weights: "pissa", r: 2 } as const;
  throwsLike(() => addLora(model, pissa), "ValueError", "await addDecomposedLora(model, config)");
  const rejects = async (config: LoraConfig, part: string) => {
    let message = "";
    await addDecomposedLora(model, config).catch((error: Error) => {
      message = error.message;
    });
    ok(message.includes(part), `"${message}" lacks ${part}`);
  };
  await rejects(
    { ...pissa, r: 40 },
    "r must be at most 32 with pissa, the smaller side of transformer.h.0",
  );
  await rejects({ ...pissa, target_modules: ["wte"] }, "transformer.wte is an embedding");
  await rejects({ ...pissa, lora_alpha: 0 }, "lora_alpha must be above 0 with pissa");
  await rejects(
    { ...pissa, lora_bias: true },
    "init_lora_weights must be true or false with lora_bias",
  );
  const lora = await addDecomposedLora(model, pissa);
  throwsLike(
    () => lora.addAdapter("two", {}),
    "ValueError",
    "where there are several adapters, got pissa, which changes the base",
  );
  lora.remove();
  const plain = addLora(model, { use_rslora: true, rank_pattern: { c_attn: 3 } });
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  for (const part of ["rank_pattern and alpha_pattern must be empty", "began as PiSSA or OLoRA"]) {
    let message = "";
    await saveAdapter(plain, folder, { convert: true }).catch((error: Error) => {
      message = error.message;
    });
    ok(message.includes(part), message);
    plain.config().rank_pattern = {};
  }
  await rm(folder, { recursive: true });
  model.dispose();
});

gpuTest("DoRA: several adapters one after the other, merged as they compute", async () => {
  manualSeed(8);
  const model = await load("gpt2-tiny");
  const lora = addLora(model, { r: 2, use_dora: true }, "a");
  lora.addAdapter("b", { r: 3, target_modules: ["c_attn", "c_fc"] });
  lora.addAdapter("c", { r: 4, use_dora: true, target_modules: ["c_attn", "wpe"] });
  for (const [i, name] of ["a", "b", "c"].entries()) {
    lora.setAdapter(name);
    await train(model, lora, 3 + i);
  }
  model.eval();
  for (const names of [
    ["a", "b"],
    ["b", "a"],
    ["c", "b", "a"],
  ]) {
    lora.setAdapter(names);
    const together = await logits(model);
    lora.merge();
    close(await logits(model), together, 1e-5, `${names}`);
    lora.unmerge();
    equal(await logits(model), together);
  }
  equal(Object.keys(peftStateDict(lora, "c")).length, 9);
  model.dispose();
});

runTests();
