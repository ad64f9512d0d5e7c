// `npx tsx bench/load.ts [GB]`: how long a checkpoint takes to load, what host memory that takes beside its
// buffers, and how many tokens a second come out of it. It makes the checkpoint in a temporary folder.
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { init } from "../src/gpu/device.ts";
import { addLora } from "../src/lora/lora.ts";
import { generateBatch } from "../src/nn/generate.ts";
import { withEmptyWeights } from "../src/nn/init.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import type { LlamaConfig } from "../src/nn/llama_config.ts";
import { fromPretrained } from "../src/nn/pretrained.ts";
import { writeHeader } from "../src/tensor/safetensors.ts";
import { sizeOf } from "../src/tensor/shape.ts";

const GB = 1e9;
const MB = 1e6;

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
async function write(folder: string, config: LlamaConfig): Promise<number> {
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
  return [...sizes.values()].reduce((a, b) => a + b, 0);
}

/** The most memory that this process ever had in RAM, in bytes. */
async function peakRss(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  const kilobytes = status.match(/^VmHWM:\s+(\d+)/m)?.[1];
  return kilobytes ? Number(kilobytes) * 1024 : process.resourceUsage().maxRSS * 1024;
}

const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
};

const folder = await mkdtemp(join(tmpdir(), "lowrank-bench-load-"));
try {
  using gpu = await init();
  const config = configFor(Number(process.argv[2] ?? 1));
  const bytes = await write(folder, config);
  const before = await peakRss();
  let arrays = 0;
  const onProgress = () => {
    arrays = Math.max(arrays, process.memoryUsage().arrayBuffers);
  };
  const began = performance.now();
  using model = await fromPretrained(folder, { onProgress });
  const load = (performance.now() - began) / 1000;
  const { bytesLive } = gpu.stats();
  // A software device keeps its buffers in this process's memory; a GPU does not.
  const buffers = gpu.adapterClass === "gpu" ? 0 : bytesLive;
  const beside = (await peakRss()) - before - buffers;
  const per = bytes / GB;
  console.log(`device: ${gpu.adapterClass}, ${gpu.description}`);
  console.log(
    `checkpoint: ${(bytes / GB).toFixed(2)} GB of bf16, ${config.num_hidden_layers} layers`,
  );
  console.log(`load: ${(load / per).toFixed(2)} s per GB`);
  // What a software device cannot be faster than: its buffers are memory that nobody touched before.
  const fresh = await seconds(async () => new Uint8Array(GB / 4).fill(1));
  console.log(`touching fresh memory alone: ${(4 * fresh).toFixed(2)} s per GB`);
  console.log(`GPU: ${(bytesLive / bytes).toFixed(3)} bytes per byte of checkpoint`);
  console.log(`peak host memory beside the buffers: ${(beside / MB).toFixed(0)} MB`);
  console.log(`most held in JavaScript's buffers: ${(arrays / MB).toFixed(0)} MB`);
  const prompt = Array.from({ length: 16 }, (_, i) => 1 + 37 * i);
  /** Tokens per second of several prompts at once, without what the prompt itself takes. */
  const speed = async (what: string, rows = 1) => {
    const prompts = Array.from({ length: rows }, () => prompt);
    const time = (n: number) =>
      seconds(() => generateBatch(model, prompts, { maxNewTokens: n, stop: [] }));
    await time(2);
    const [few, many] = [await time(2), await time(10)];
    console.log(`generation, ${what}: ${((8 * rows) / (many - few)).toFixed(2)} tokens per second`);
  };
  await speed("one prompt");
  await speed("eight prompts", 8);
  const lora = addLora(model, { r: 16, target_modules: "all-linear" });
  await speed("one prompt, an adapter of rank 16 on every linear layer");
  lora.merge();
  await speed("one prompt, the adapter merged");
} finally {
  await rm(folder, { recursive: true });
}
