// Merging: safely, with a certificate, into a folder, and from folder to folder.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { mergeWithCertificate, saveMerged } from "../../src/lora/certificate.ts";
import { allFinite } from "../../src/lora/finite.ts";
import { addLora } from "../../src/lora/lora.ts";
import { mergeFolder } from "../../src/lora/merge_folder.ts";
import { loadAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained, savePretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { encode } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, theGpu } from "../gpu.ts";
import { loraMerge } from "../reference/lora_merge.ts";

const ids = () =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i * 13 + 5) % 67),
    [2, 11],
  );
const logits = async (model: CausalLM) =>
  (await noGrad(() => model.call(ids())).data()) as Float32Array;
const load = (name: string) => fromPretrained(fixtureFolder(name));
const temporary = () => mkdtemp(join(tmpdir(), "lowrank-"));

for (const dtype of ["f32", "f16", "bf16"] as const) {
  gpuTest(
    `${dtype}: the certificate's bounds hold in float64, and the folder gives the merged logits`,
    async () => {
      const half = await temporary();
      await savePretrained(await load("llama-tiny"), half, { dtype });
      const model = await fromPretrained(half);
      const lora = await loadAdapter(model, fixtureFolder("peft-llama-tiny-all-linear"));
      model.eval();
      const before = await logits(model);
      const out = await temporary();
      const certificate = await saveMerged(lora, model, out, ids());
      equal(await logits(model), before, "M6: the model is as it was, bit for bit");
      equal(JSON.parse(await readFile(`${out}/merge_certificate.json`, "utf8")), certificate);
      const again = await fromPretrained(out);
      again.eval();
      const merged = await logits(again);
      let difference = 0;
      for (const [i, v] of merged.entries())
        difference = Math.max(difference, Math.abs(v - before[i]!));
      is(certificate.maxLogitDifference, difference);
      is(
        certificate.maxLogit,
        before.reduce((m, v) => Math.max(m, Math.abs(v)), 0),
      );
      if (dtype === "f32") ok(difference <= 1e-5 * certificate.maxLogit, `M5: ${difference}`);
      for (const [path, layer] of lora.layers) {
        const [update] = layer.active;
        const { sizes, weight } = layer;
        const { r, scaling, lora_A, lora_B } = update!;
        const exact = loraMerge(
          await weight.data(),
          await lora_A.data(),
          await lora_B.data(),
          { ...sizes, r },
          scaling,
        );
        const rounded = await (again.module(path) as unknown as { weight: Tensor }).weight.data();
        const { bound } = certificate.layers[path]!;
        for (let o = 0; o < sizes.out; o++) {
          let square = 0;
          for (let i = 0; i < sizes.in; i++)
            square += (rounded[o * sizes.in + i]! - exact[o * sizes.in + i]!) ** 2;
          ok(Math.sqrt(square) <= bound, `${path}, row ${o}: ${Math.sqrt(square)} > ${bound}`);
          if (o === 0)
            ok(bound < 100 * Math.sqrt(square) + 1e-6, `${path}: the bound says something`);
        }
      }
      again.dispose();
      model.dispose();
      for (const folder of [half, out]) await rm(folder, { recursive: true });
    },
  );
}

const ADAPTERS = [
  ["peft-llama-tiny-all-linear", "llama-tiny"],
  ["peft-llama-dora", "llama-tiny"],
  ["peft-llama-dora-embedding", "llama-tiny"],
  ["peft-llama-save", "llama-tiny"],
  ["peft-llama-head", "llama-tiny"],
  ["peft-llama-pissa", "llama-tiny"],
  ["peft-llama-olora", "llama-tiny"],
  ["peft-gpt2-tiny", "gpt2-tiny"],
  ["peft-gpt2-bias-all", "gpt2-tiny"],
  ["peft-gpt2-lora-bias", "gpt2-tiny"],
  ["peft-gpt2-embedding", "gpt2-tiny"],
  ["peft-gpt2-save", "gpt2-tiny"],
] as const;

for (const [adapter, base] of ADAPTERS) {
  gpuTest(`${adapter}: folder and folder give a folder, tensor by tensor`, async () => {
    const model = await load(base);
    await loadAdapter(model, fixtureFolder(adapter));
    const expected = await logits(model.eval());
    model.dispose();
    const out = await temporary();
    const { bytesLive } = theGpu().stats();
    const told: number[] = [];
    await mergeFolder(fixtureFolder(base), fixtureFolder(adapter), out, (p) => {
      told.push(p.bytesDone / p.bytesTotal);
    });
    ok(told.length > 10 && told.every((share, i) => share > (told[i - 1] ?? 0)), "progress");
    is(told.at(-1), 1);
    // Finalizers may give back in between what earlier tests left.
    ok(theGpu().stats().bytesLive <= bytesLive, "nothing is left on the device");
    const merged = await fromPretrained(out);
    close(await logits(merged.eval()), expected, 1e-5, "logits");
    merged.dispose();
    await rm(out, { recursive: true });
  });
}

gpuTest(
  "folder to folder: the device holds the adapter and a few of the largest tensors, not the model",
  async () => {
    const out = await temporary();
    const gpu = theGpu();
    gpu.resetPeak();
    const before = gpu.stats().bytesLive;
    await mergeFolder(fixtureFolder("llama-tiny"), fixtureFolder("peft-llama-tiny"), out);
    const used = gpu.stats().bytesPeak - before;
    const model = await load("llama-tiny");
    const whole = model.parameters().reduce((sum, p) => sum + p.bytes, 0);

    ok(used < whole, `${used} bytes at most, the model has ${whole}`);
    model.dispose();
    await rm(out, { recursive: true });
  },
);

gpuTest("M7: what is not finite is refused, and nothing is changed", async () => {
  const model = await load("llama-tiny");
  const lora = addLora(model, { r: 2 });
  model.eval();
  const before = await logits(model);
  const [[path, layer]] = [...lora.layers] as [
    [string, NonNullable<ReturnType<typeof lora.layers.get>>],
  ];
  const update = layer.active[0]!;
  const good = update.lora_B;
  const refused = async (parts: string[]) => {
    let message = "";
    await lora.mergeSafely().catch((error: Error) => {
      message = `${error.name}: ${error.message}`;
    });
    for (const part of ["ValueError: mergeSafely: ", "Nothing was changed.", ...parts])
      ok(message.includes(part), `"${message}" lacks ${part}`);
    ok(!lora.merged);
  };
  update.lora_B = tensor(new Float32Array(good.size).fill(Number.NaN), good.shape).persist();
  await refused([`lora_B of ${path} must be finite`]);
  update.lora_B = tensor(new Float32Array(good.size).fill(3e38), good.shape).persist();
  update.scaling = 1e10;
  await refused([`the merged weight of ${path} must be finite`]);
  update.lora_B = good;
  equal(await logits(model), before);
  await mergeWithCertificate(lora, model, ids());
  let message = "";
  await mergeWithCertificate(lora, model, ids()).catch((error: Error) => {
    message = error.message;
  });
  ok(message.includes("mergeWithCertificate: the adapters must be not merged"), message);
  model.dispose();
});

gpuTest("a tied embedding is not merged into a folder beside its head", async () => {
  const model = await load("gpt2-tiny");
  const lora = addLora(model, { r: 2, target_modules: ["wte"] });
  let message = "";
  await saveMerged(lora, model, "/nonexistent", ids()).catch((error: Error) => {
    message = error.message;
  });
  ok(message.includes("saveMerged: transformer.wte must be apart from the output head"), message);
  model.dispose();
  await mergeFolder("a", "a/adapter", "a").catch((error: Error) => {
    message = error.message;
  });
  is(message, "mergeFolder: out must be another folder than base, got a.");
});

gpuTest("finite numbers by their bits", () => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    const bytes = (values: number[]) => encode(values, dtype) as Uint8Array<ArrayBuffer>;
    ok(allFinite(bytes([0, -0, 1, -65504, 1e-7]), dtype));
    for (const bad of [Number.NaN, Infinity, -Infinity]) ok(!allFinite(bytes([1, bad]), dtype));
  }
});

runTests();
