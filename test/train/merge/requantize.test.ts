// Merges into quantised bases: refused, or into dequantised weights, or rounded again with what that loses.
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../../src/autograd/graph.ts";
import { addLora } from "../../../src/lora/lora.ts";
import { mergeFolder } from "../../../src/lora/merge_folder.ts";
import { loadAdapter, saveAdapter } from "../../../src/lora/peft.ts";
import type { CausalLM } from "../../../src/nn/causal_lm.ts";
import { copyStorage } from "../../../src/nn/optim/arena.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { tensor } from "../../../src/tensor/create.ts";
import {
  dequantizeValues,
  isQuantized,
  QUANTIZED_TYPES,
  type QuantizedType,
  quantizeValues,
} from "../../../src/tensor/quantized.ts";
import { mergeToFolder } from "../../../src/train/merge/merge_to_folder.ts";
import { quantizeFolder } from "../../../src/train/quantize/quantize_folder.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { close, gpuTest, randomValues, runTests } from "../../gpu.ts";

const TARGETS: Record<string, string[]> = {
  "llama-tiny-bf16": ["q_proj", "down_proj"],
  "gpt2-tiny": ["c_attn"],
};

/** A quantised base and an adapter on it, in a folder. */
async function worldOf(folder: string, base: string, type: QuantizedType, size: number) {
  cpSync(fixtureFolder(base), `${folder}/base`, { recursive: true });
  await quantizeFolder(`${folder}/base`, type, `${folder}/q`);
  using model = await fromPretrained(`${folder}/q`);
  const lora = addLora(model, { r: 2, lora_alpha: 4, target_modules: TARGETS[base]! });
  for (const [i, p] of lora.parameters().entries()) {
    using values = tensor(randomValues(p.size, i + 1, size), p.shape);
    copyStorage(values.storage, p.storage, p.bytes);
  }
  await saveAdapter(lora, `${folder}/a`);
  return { base: `${folder}/q`, adapters: [{ name: "a", folder: `${folder}/a`, weight: 1 }] };
}

async function logits(model: CausalLM): Promise<Float32Array> {
  const ids = tensor(Int32Array.from({ length: 22 }, (_, i) => (i * 37 + 3) % 67), [2, 11]); // biome-ignore format: one line
  return (await noGrad(() => model.eval().call(ids)).data()) as Float32Array;
}

async function refused(work: Promise<unknown>, ...parts: string[]): Promise<void> {
  const error = await work.then(() => null, (e: Error) => e); // biome-ignore format: one line
  ok(error, "nothing was thrown");
  for (const part of parts) ok(error.message.includes(part), `"${error.message}" lacks ${part}`);
}

for (const type of QUANTIZED_TYPES) {
  for (const base of Object.keys(TARGETS)) {
    gpuTest(`${base} in ${type}: refused, dequantised, or rounded again with its loss`, () =>
      inFolder(async (folder) => {
        const world = await worldOf(folder, base, type, 0.3);
        const merge = (out: string, options: object) => mergeToFolder(world.base, world.adapters, `${folder}/${out}`, options); // biome-ignore format: one line
        await refused(merge("x", {}), "whose weights are not quantised", "loses most of the adapter", "requantize"); // biome-ignore format: one line
        await refused(merge("x", { stream: true }), "stream");
        await refused(merge("x", { requantize: true, dtype: "f16" }), "requantize");
        await refused(merge("x", { requantize: true, certify: false }), "certify must be true");
        await refused(mergeToFolder(`${folder}/base`, world.adapters, `${folder}/x`, { requantize: true }), "for a base whose weights are not quantised"); // biome-ignore format: one line
        await refused(mergeFolder(world.base, `${folder}/a`, `${folder}/x`), "quantization_config"); // biome-ignore format: one line
        ok(!existsSync(`${folder}/x`));

        using model = await fromPretrained(world.base);
        const before = await logits(model);
        const lora = await loadAdapter(model, `${folder}/a`);
        const adapted = await logits(model);
        const wideCertificate = await merge("wide", { dtype: "f32" });
        is(wideCertificate!.requantized, undefined);
        using wide = await fromPretrained(`${folder}/wide`);
        close(await logits(wide), adapted, 2e-5, "into dequantised weights the merge is exact");
        ok([...wide.stateDict().values()].every((p) => p.dtype === "f32"));

        const certificate = (await merge("again", { requantize: true }))!;
        equal(JSON.parse(readFileSync(`${folder}/again/merge_certificate.json`, "utf8")), certificate); // biome-ignore format: one line
        equal(certificate.layers, {});
        const { requantized } = certificate;
        using again = await fromPretrained(`${folder}/again`);
        const turned = base === "gpt2-tiny";
        const paths: string[] = [];
        const sums = [0, 0, 0];
        lora.remove();
        for (const [name, p] of model.stateDict()) {
          const written = again.stateDict().get(name)!;
          is(written.dtype, p.dtype, name);
          const path = name.replace(/\.weight$/, "");
          if (!isQuantized(p.dtype) || !(path in requantized!.layers)) {
            equal(await written.rawBytes(), await p.rawBytes(), `${name} has its own bits`);
            continue;
          }
          paths.push(path);
          const stored = (await wide.stateDict().get(name)!.data()) as Float32Array;
          const [rows, columns] = p.shape as [number, number];
          const at = (i: number) => (turned ? (i % columns) * rows + Math.floor(i / columns) : i);
          const after = Float32Array.from(stored, (_, i) => stored[at(i)]!);
          const own = await p.data();
          const back = dequantizeValues(quantizeValues(after, p.shape, type), p.shape, type);
          close(await written.data(), back, 2e-6, `${name} is the sum, rounded`);
          const found = [0, 0, 0];
          for (let i = 0; i < own.length; i++) {
            const change = after[i]! - own[i]!;
            found[0]! += change ** 2;
            found[1]! += (back[i]! - own[i]!) * change;
            found[2]! += (back[i]! - after[i]!) ** 2;
          }
          const { kept, error } = requantized!.layers[path]!;
          close([kept, error], [found[1]! / found[0]!, Math.sqrt(found[2]! / found[0]!)], 2e-3, path); // biome-ignore format: one line
          for (let i = 0; i < 3; i++) sums[i]! += found[i]!;
        }
        is(paths.length, turned ? 2 : 4);
        close([requantized!.kept, requantized!.error], [sums[1]! / sums[0]!, Math.sqrt(sums[2]! / sums[0]!)], 2e-3, "all layers"); // biome-ignore format: one line
        const moved = (a: Float32Array, b: Float32Array) => a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0); // biome-ignore format: one line
        ok(moved(before, adapted) > 0 && requantized!.maxLogitUpdate > 0);
        ok(certificate.maxLogitDifference > wideCertificate!.maxLogitDifference);
        equal(readdirSync(folder).sort(), ["a", "again", "base", "q", "wide"]);
      }),
    );
  }
}

gpuTest("a small update is lost in NF4, and the figures say so", () =>
  inFolder(async (folder) => {
    const lost = async (size: number) => {
      const at = `${folder}/${size}`;
      const world = await worldOf(at, "llama-tiny-bf16", "nf4", size);
      const certificate = await mergeToFolder(world.base, world.adapters, `${at}/out`, { requantize: true }); // biome-ignore format: one line
      return certificate!.requantized!;
    };
    const [small, large] = [await lost(0.02), await lost(0.7)];
    ok(small.error > 1, `error ${small.error} of a small update`);
    ok(large.error < 0.5 && Math.abs(large.kept - 1) < 0.2, JSON.stringify(large));
  }),
);

runTests();
