// DoRA, PiSSA, OLoRA, rsLoRA, lora_bias: what must hold for each kind of adapter.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { decomposes } from "../../src/lora/decompose.ts";
import { columnsOf, dot, rowsOf } from "../../src/lora/linalg.ts";
import { addDecomposedLora, addLora, type Lora } from "../../src/lora/lora.ts";
import { loadAdapter, peftStateDict, saveAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, throwsLike } from "../gpu.ts";
import { doraNorm } from "../reference/dora_norm.ts";

const load = (name: string) => fromPretrained(fixtureFolder(name));
const tokens = (step: number) =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i * step + 5) % 67),
    [2, 11],
  );
const logits = async (model: CausalLM) =>
  (await noGrad(() => model.call(tokens(13))).data()) as Float32Array;
const put = (model: CausalLM, config: LoraConfig): Promise<Lora> =>
  decomposes(config.init_lora_weights ?? true)
    ? addDecomposedLora(model, config)
    : Promise.resolve(addLora(model, config));

async function train(model: CausalLM, lora: Lora, steps: number): Promise<number[]> {
  const optimizer = new AdamW(lora.parameters(), { lr: 1e-2 });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    using _ = scope();
    const loss = model.loss(tokens(13), tokens(7));
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
  }
  optimizer.dispose();
  return losses;
}

const VARIANTS: readonly [string, LoraConfig][] = [
  ["LoRA", {}],
  ["rsLoRA", { use_rslora: true }],
  ["lora_bias", { lora_bias: true, target_modules: ["c_attn", "c_fc"] }],
  ["DoRA", { use_dora: true }],
  ["DoRA with dropout", { use_dora: true, lora_dropout: 0.2 }],
  [
    "DoRA, embedding",
    { use_dora: true, target_modules: ["wte", "embed_tokens", "c_fc", "o_proj"] },
  ],
  ["embedding", { target_modules: ["wte", "wpe", "embed_tokens", "c_attn", "v_proj"] }],
  ["modules_to_save", { modules_to_save: [] }],
  ["PiSSA", { init_lora_weights: "pissa" }],
  ["PiSSA, quick", { init_lora_weights: "pissa_niter_4" }],
  ["OLoRA", { init_lora_weights: "olora" }],
];

for (const base of ["llama-tiny", "gpt2-tiny"]) {
  for (const [name, config] of VARIANTS) {
    if (config.lora_bias && base === "llama-tiny") continue;
    gpuTest(
      `M1 M2 M4 M5 M6 M7 F4 ${name} on ${base}: from the first step to the file and back`,
      async () => {
        manualSeed(2);
        const model = await load(base);
        const before = await logits(model);
        const base64 = await Promise.all(model.parameters().map((p) => p.rawBytes()));
        const own = model.parameters();
        const saved = base === "llama-tiny" ? ["model.norm", "lm_head"] : ["ln_f", "wpe"];
        const all = {
          ...{ target_modules: "all-linear", r: 4, lora_alpha: 8, ...config },
          ...(config.modules_to_save ? { modules_to_save: saved } : {}),
        };
        const lora = await put(model, all);
        const exact = !decomposes(config.init_lora_weights ?? true);
        model.eval();
        close(await logits(model), before, 1e-5, "M1: the first step computes the base");
        model.train();
        const losses = await train(model, lora, 20);
        ok(losses.at(-1)! < 0.9 * losses[0]!, `the loss falls: ${losses[0]} to ${losses.at(-1)}`);
        model.eval();
        const trained = await logits(model);
        lora.disable();
        close(await logits(model), before, exact ? 0 : 1e-5, "M4: disabled");
        lora.enable();
        equal(await logits(model), trained, "M4: enabled again");
        lora.merge();
        close(await logits(model), trained, 1e-5, "M5: merged");
        lora.unmerge();
        equal(await logits(model), trained, "M6: unmerged");
        const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
        await saveAdapter(lora, folder);
        const again = await load(base);
        const loaded = await loadAdapter(again, folder);
        again.eval();
        // A random projection draws anew, and the rest of the base with it.
        if (config.init_lora_weights !== "pissa_niter_4") {
          close(await logits(again), trained, 1e-5, "F4: loaded");
          // To go on training gives what it would have given.
          manualSeed(9);
          const on = await train(model.train(), lora, 3);
          manualSeed(9);
          close(await train(again.train(), loaded, 3), on, 1e-5, "continued");
        }
        lora.remove();
        model.eval();
        close(await logits(model), before, exact ? 0 : 1e-5, "removed");
        is(model.parameters().length, own.length);
        for (const [i, p] of model.parameters().entries()) {
          if (exact) equal(await p.rawBytes(), base64[i], "M2: the base's bytes");
        }
        again.dispose();
        model.dispose();
        await rm(folder, { recursive: true });
      },
    );
  }
}

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
