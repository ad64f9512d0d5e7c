// Folders of quantised models: what Transformers and bitsandbytes write, written and read here.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { Linear } from "../../src/nn/layers.ts";
import { fromPretrained, type LoadOptions, savePretrained } from "../../src/nn/pretrained.ts";
import { Checkpoint } from "../../src/tensor/checkpoint.ts";
import { tensor } from "../../src/tensor/create.ts";
import {
  isQuantized,
  QUANTIZED_TYPES,
  type QuantizedType,
  quantizedParts,
} from "../../src/tensor/quantized.ts";
import { type Part, writeSafetensors } from "../../src/tensor/safetensors_file.ts";
import { scope } from "../../src/tensor/scope.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";

const BASES = ["gpt2-tiny", "llama-tiny", "llama-tiny-bf16"];
const load = (folder: string, options: LoadOptions = {}) => fromPretrained(folder, options);

async function logits(model: CausalLM): Promise<Float32Array> {
  using _ = scope();
  const ids = Int32Array.from({ length: 22 }, (_, i) => (i * 13 + 5) % 67);
  return (await model
    .eval()
    .call(tensor(ids, [2, 11]))
    .data()) as Float32Array;
}

async function bytesOf(model: CausalLM): Promise<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (const [name, p] of model.stateDict())
    all[name] = [p.dtype, [...p.shape], await p.rawBytes()];
  return all;
}

/** A folder's tensors, to be changed and written back. */
async function partsOf(
  folder: string,
): Promise<Map<string, Part & { bytes: () => Promise<Uint8Array> }>> {
  const file = await Checkpoint.open(folder);
  const parts = new Map<string, Part>();
  for (const [name, { bytes }] of [...file.files].map(
    ([n, f]) => [n, { bytes: f.bytes(n) }] as const,
  )) {
    const { dtype, shape } = file.entry(name)!;
    const content = await bytes;
    parts.set(name, {
      dtype: dtype.toLowerCase() as Part["dtype"],
      shape,
      bytes: async () => content,
    });
  }
  await file.close();
  return parts;
}

async function refused(work: Promise<unknown>, ...expected: string[]): Promise<void> {
  const message = await work.then(
    () => "nothing was thrown",
    (error: Error) => `${error.name}: ${error.message}`,
  );
  for (const part of expected) ok(message.includes(part), `"${message}" lacks "${part}"`);
}

for (const [base, type] of [
  ["llama-tiny", "nf4"],
  ["gpt2-tiny", "int8"],
] as const) {
  gpuTest(
    `${base}: what PyTorch wrote in bitsandbytes' layout is what ${type} makes of it here`,
    async () => {
      const stored = await load(fixtureFolder(`${base}-${type}`));
      const own = await load(fixtureFolder(base), { quantize: type });
      const wanted = own.stateDict();
      is(stored.stateDict().size, wanted.size);
      for (const [name, p] of stored.stateDict()) {
        const o = wanted.get(name)!;
        equal([p.dtype, [...p.shape]], [o.dtype, [...o.shape]], name);
        if (!isQuantized(p.dtype)) equal(await p.rawBytes(), await o.rawBytes(), name);
        else {
          const [a, b] = [await p.rawBytes(), await o.rawBytes()].map((t) =>
            quantizedParts(type, p.shape, t),
          );
          equal([a!.codes, a!.blocks], [b!.codes, b!.blocks], name);
          for (const part of ["absmax", "nested", "mean", "map"] as const) close(a![part], b![part], 1e-7, `${name} ${part}`); // biome-ignore format: one line
        }
      }
      close(await logits(stored), await logits(own), 1e-6, "logits");
      const wide = await load(fixtureFolder(`${base}-${type}`), { dtype: "f32" });
      ok([...wide.stateDict().values()].every((p) => p.dtype === "f32"));
      close(await logits(wide), await logits(stored), 1e-5, "dequantised");
      for (const m of [stored, own, wide]) m.dispose();
    },
  );
}

for (const type of QUANTIZED_TYPES) {
  for (const base of BASES) {
    gpuTest(`${base} quantised to ${type}, saved and loaded is what it was, bit for bit`, () =>
      inFolder(async (folder) => {
        const own = await load(fixtureFolder(base), { quantize: type });
        await savePretrained(own, `${folder}/q`);
        const config = JSON.parse(readFileSync(`${folder}/q/config.json`, "utf8"));
        is(config.quantization_config.quant_method, "bitsandbytes");
        const seen: number[] = [];
        const loaded = await load(`${folder}/q`, { onProgress: ({ bytesDone, bytesTotal }) => seen.push(bytesDone / bytesTotal) }); // biome-ignore format: one line
        is(seen.at(-1), 1);
        equal(await bytesOf(loaded), await bytesOf(own));
        equal(await logits(loaded), await logits(own));
        const same = await load(`${folder}/q`, { quantize: type, dtype: "f32" });
        equal(
          await logits(same),
          await logits(await load(fixtureFolder(base), { quantize: type, dtype: "f32" })),
        );

        const other: QuantizedType = type === "int8" ? "nf4" : "int8";
        await refused(
          load(`${folder}/q`, { quantize: other }),
          `quantize must be ${type}, as `,
          `got ${other}`,
        );

        // Dequantised: while it is loaded, and while it is saved.
        const wide = await load(`${folder}/q`, { dtype: "f32" });
        for (const [path, layer] of loaded.namedModules()) {
          if (!(layer instanceof Linear) || !isQuantized(layer.weight.dtype)) continue;
          const p = wide.stateDict().get(`${path}.weight`)!;
          const values = await layer.weight.data();
          const [rows, columns] = layer.weight.shape as [number, number];
          const turned = base === "gpt2-tiny";
          equal([...p.shape], turned ? [columns, rows] : [rows, columns]);
          const at = (i: number) => (turned ? (i % rows) * columns + Math.floor(i / rows) : i);
          equal(
            await p.data(),
            Float32Array.from(values, (_, i) => values[at(i)]!),
            path,
          );
        }
        await savePretrained(loaded, `${folder}/w`, { dtype: "f32" });
        const { quantization_config: none } = JSON.parse(
          readFileSync(`${folder}/w/config.json`, "utf8"),
        );
        is(none, undefined);
        const again = await load(`${folder}/w`);
        equal(await bytesOf(again), await bytesOf(wide));
        for (const m of [own, loaded, same, wide, again]) m.dispose();
      }),
    );
  }
}

gpuTest("damaged and other kinds of quantised folders are refused before anything is loaded", () =>
  inFolder(async (folder) => {
    const name = "model.layers.0.mlp.up_proj.weight";
    const state = `${name}.quant_state.bitsandbytes__nf4`;
    const original = await partsOf(fixtureFolder("llama-tiny-nf4"));
    const attempt = async (change: (parts: Map<string, Part>) => void, ...expected: string[]) => {
      const parts = new Map(original);
      change(parts);
      cpSync(fixtureFolder("llama-tiny-nf4"), folder, { recursive: true });
      await writeSafetensors(`${folder}/model.safetensors`, parts, { format: "pt" });
      await refused(load(folder), "FormatError", ...expected, "Nothing was loaded");
    };
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const json = JSON.parse(text(await original.get(state)!.bytes()));
    const put = (parts: Map<string, Part>, part: string, dtype: Part["dtype"], shape: number[], bytes: Uint8Array) =>
      parts.set(part, { dtype, shape, bytes: async () => bytes }); // biome-ignore format: one line
    const stated = (fields: object) => (parts: Map<string, Part>) => {
      const bytes = new TextEncoder().encode(JSON.stringify({ ...json, ...fields }));
      put(parts, state, "u8", [bytes.length], bytes);
    };
    await attempt(
      (parts) => parts.delete(`${name}.absmax`),
      `missing ${name}.absmax, expected U8 [28]`,
    );
    await attempt((parts) => put(parts, `${name}.absmax`, "u8", [27], new Uint8Array(27)), `${name}.absmax is U8 [27], expected U8 [28]`); // biome-ignore format: one line
    await attempt((parts) => put(parts, `${name}.absmax`, "f32", [28], new Uint8Array(112)), "is F32 [28], expected U8 [28]"); // biome-ignore format: one line
    await attempt((parts) => put(parts, `${name}.quant_map`, "f32", [16], new Uint8Array(64)), `${name}.quant_map is not that of NF4`); // biome-ignore format: one line
    await attempt((parts) => put(parts, state, "u8", [3], new Uint8Array([1, 2, 3])), `${state} is not a JSON object`); // biome-ignore format: one line
    await attempt(stated({ nested_blocksize: undefined }), `nested_blocksize of ${state} must be 256, double quantisation, got nothing`); // biome-ignore format: one line
    await attempt(stated({ blocksize: 128 }), `blocksize of ${state} must be 64, got 128`);
    await attempt(stated({ quant_type: "fp4", nested_offset: "x" }), 'must be "nf4", got "fp4"', 'nested_offset', 'must be a number, got "x"'); // biome-ignore format: one line
    await attempt(
      stated({ shape: [56, 33] }),
      `${name} is [896, 1], expected 924 bytes for [56, 33]`,
    );
    await attempt(stated({ shape: [28, 64] }), `${name} is [28, 64], expected [56, 32]`);
    await attempt(stated({ shape: [1e9, 1e9] }), "shape of", "must be [rows, columns]");
    await attempt(
      (parts) => {
        for (const part of [...parts.keys()]) {
          if (part.startsWith(name))
            parts.set(part.replace("model.layers.0.mlp.up_proj", "lm_head"), parts.get(part)!);
        }
      },
      "lm_head.weight",
      "only linear layers but the head",
    );
  }),
);

gpuTest("configurations of other methods are refused", () =>
  inFolder(async (folder) => {
    const config = JSON.parse(
      readFileSync(`${fixtureFolder("llama-tiny-nf4")}/config.json`, "utf8"),
    );
    const attempt = async (quantization_config: object, ...expected: string[]) => {
      writeFileSync(`${folder}/config.json`, JSON.stringify({ ...config, quantization_config }));
      await refused(load(folder), "FormatError", ...expected);
    };
    const { quantization_config: own } = config;
    await attempt({ quant_method: "gptq", bits: 4 }, 'quantization_config.quant_method must be "bitsandbytes", got "gptq"'); // biome-ignore format: one line
    await attempt({ ...own, bnb_4bit_quant_type: "fp4" }, 'quantization_config.bnb_4bit_quant_type must be "nf4", got "fp4"'); // biome-ignore format: one line
    await attempt({ ...own, bnb_4bit_use_double_quant: false }, "bnb_4bit_use_double_quant must be true, got false"); // biome-ignore format: one line
    await attempt({ ...own, load_in_8bit: true }, "load_in_4bit must be true, or load_in_8bit, got true"); // biome-ignore format: one line
    await attempt({ ...own, unheard: 3 }, "quantization_config.unheard = 3 is not supported");
  }),
);

runTests();
