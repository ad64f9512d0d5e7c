// `npx tsx bench/checkpoint.ts folder [GB]`: a Llama of bf16 with random weights, for `lowrank bench -m folder`.
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { init } from "../src/gpu/device.ts";
import { withEmptyWeights } from "../src/nn/init.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import type { LlamaConfig } from "../src/nn/llama_config.ts";
import { writeHeader } from "../src/tensor/safetensors.ts";
import { sizeOf } from "../src/tensor/shape.ts";

const GB = 1e9;

function configFor(gigabytes: number): LlamaConfig {
  const [hidden, inner, vocabulary] = [2048, 8192, 32_000];
  const layer = 2 * (2 * hidden * hidden + 2 * hidden * 512 + 3 * hidden * inner);
  const layers = Math.max(1, Math.round((gigabytes * GB - 2 * vocabulary * hidden) / layer));
  return {
    vocab_size: vocabulary,
    hidden_size: hidden,
    intermediate_size: inner,
    num_hidden_layers: layers,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    max_position_embeddings: 2048,
    tie_word_embeddings: true,
  };
}

/** Writes a bf16 checkpoint of random weights, a megabyte at a time. */
async function write(folder: string, config: LlamaConfig): Promise<void> {
  const model = withEmptyWeights(() => new LlamaForCausalLM(config));
  const shapes = [...model.stateDict()].map(
    ([name, p]) => [name, { dtype: "bf16" as const, shape: p.shape }] as const,
  );
  model.dispose();
  const { header, order } = writeHeader(new Map(shapes));
  const sizes = new Map(shapes.map(([name, { shape }]) => [name, 2 * sizeOf(shape)]));
  const file = await open(join(folder, "model.safetensors"), "w");
  await file.writeFile(header);
  let state = 1;
  const block = Uint16Array.from({ length: 2 ** 19 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 0x3c00 | ((state >>> 16) & 0x81ff); // of either sign, up to 0.03
  });
  const norm = new Uint16Array(block.length).fill(0x3f80); // 1
  for (const name of order) {
    const source = new Uint8Array((sizes.get(name)! < 1e5 ? norm : block).buffer);
    for (let left = sizes.get(name)!; left > 0; left -= source.length) {
      await file.writeFile(source.subarray(0, Math.min(left, source.length)));
    }
  }
  await file.close();
  const json = JSON.stringify({ model_type: "llama", ...config });
  await writeFile(join(folder, "config.json"), json);
}

const [folder, gigabytes = "1"] = process.argv.slice(2);
if (!folder) throw new Error("bench: name the folder that gets the checkpoint.");
using _ = await init();
await mkdir(folder, { recursive: true });
await write(folder, configFor(Number(gigabytes)));
