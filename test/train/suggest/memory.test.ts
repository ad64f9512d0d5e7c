// The memory that is foretold against what steps took, for both families and the methods that differ in it.
import { is, ok } from "uvu/assert";
import type { CausalLM } from "../../../src/nn/causal_lm.ts";
import { GPT2LMHeadModel } from "../../../src/nn/gpt2.ts";
import { LlamaForCausalLM } from "../../../src/nn/llama.ts";
import { fromPretrained, savePretrained } from "../../../src/nn/pretrained.ts";
import { heldAs } from "../../../src/train/base_dtype.ts";
import { fit } from "../../../src/train/fit.ts";
import {
  type FullConfig,
  resolveConfig,
  type TrainConfig,
} from "../../../src/train/recipe/index.ts";
import { prepare } from "../../../src/train/recipe/method.ts";
import { stepMemory, trainedSizes } from "../../../src/train/suggest/memory.ts";
import { Windows } from "../../../src/train/windows.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests, theGpu } from "../../gpu.ts";

const [VOCABULARY, LENGTH, BATCH] = [256, 64, 8];
const FAMILIES: Readonly<Record<string, () => CausalLM>> = {
  gpt2: () =>
    new GPT2LMHeadModel({
      ...{ vocab_size: VOCABULARY, n_positions: LENGTH, n_embd: 96, n_layer: 2, n_head: 4 },
    }),
  llama: () =>
    new LlamaForCausalLM({
      ...{ vocab_size: VOCABULARY, hidden_size: 96, intermediate_size: 256, num_hidden_layers: 2 },
      ...{ num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: LENGTH },
    }),
};

/** What is trained. */
const CASES: Readonly<Record<string, readonly Partial<TrainConfig>[]>> = {
  gpt2: [
    {},
    { training: { gradient_checkpointing: true } },
    { lora: { r: 8, target_modules: ["c_attn"] } },
  ],
  llama: [{ method: "full" }, { method: "dora" }, { method: "lora-fa", base_dtype: "nf4" }],
};

const text = new Windows(
  Int32Array.from({ length: 1000 }, (_, i) => (i * i) % VOCABULARY),
  LENGTH,
);

/** Bytes above those before, and parameters, of a step. */
async function taken(folder: string, config: FullConfig) {
  const before = theGpu().stats().bytesLive;
  using model = await fromPretrained(folder, heldAs(config.base_dtype));
  const { movedAt, count } = await prepare(model, config);
  const moved = await movedAt(1e-3);
  theGpu().resetPeak();
  await fit(model, { ...moved, train: text, steps: 1, batch: BATCH, lr: 1e-3, capture: false });
  return { bytes: theGpu().memory().total.peak - before, ...count() };
}

for (const [family, make] of Object.entries(FAMILIES)) {
  gpuTest(`${family}: steps take what is foretold, whatever is trained`, () =>
    inFolder(async (folder) => {
      using made = make();
      await savePretrained(made, folder);
      made.dispose();
      for (const change of CASES[family]!) {
        const config = resolveConfig({
          ...{ model: folder, output: "none", data: { train: "none" } },
          ...{ lora: change.method === "full" ? {} : { r: 8 }, ...change },
        });
        const { bytes, trainable, total } = await taken(folder, config);
        const sizes = await trainedSizes(folder, config);
        const foretold = stepMemory(sizes, { ...config.training, batch: BATCH, length: LENGTH });
        const facts = `${family} ${JSON.stringify(change)}: ${bytes} ${JSON.stringify(foretold)}`;
        is(sizes.trainable, trainable, facts);
        is(sizes.total, total, facts);
        const isAll = change.lora === undefined;
        ok(Math.abs(bytes / foretold.total - 1) < (isAll ? 0.05 : 0.11), facts);
      }
    }),
  );
}

runTests();
