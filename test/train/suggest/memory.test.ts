// The memory that is foretold against what a run took, for both families and the methods that differ in it.
import { writeFileSync } from "node:fs";
import { is, ok } from "uvu/assert";
import type { CausalLM } from "../../../src/nn/causal_lm.ts";
import { GPT2LMHeadModel } from "../../../src/nn/gpt2.ts";
import { LlamaForCausalLM } from "../../../src/nn/llama.ts";
import { savePretrained } from "../../../src/nn/pretrained.ts";
import { resolveConfig, type TrainConfig, trainRun } from "../../../src/train/recipe/index.ts";
import { stepMemory, trainedSizes } from "../../../src/train/suggest/memory.ts";
import { BYTE_VOCABULARY } from "../../../src/train/text/bytes.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests } from "../../gpu.ts";
import { TEXT } from "../recipe/tiny_recipe.ts";

const vocab_size = BYTE_VOCABULARY;
const FAMILIES: Readonly<Record<string, () => CausalLM>> = {
  gpt2: () => new GPT2LMHeadModel({ vocab_size, n_positions: 64, n_embd: 96, n_layer: 2, n_head: 4 }), // biome-ignore format: one line
  llama: () =>
    new LlamaForCausalLM({
      ...{ vocab_size, hidden_size: 96, intermediate_size: 256, num_hidden_layers: 2 },
      ...{ num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 64 },
    }),
};

const QV: Readonly<Record<string, string[]>> = { gpt2: ["c_attn"], llama: ["q_proj", "v_proj"] };

/** Methods, and how far the foretold total may be from the peak. */
const CASES: readonly [Partial<TrainConfig>, number][] = [
  [{ method: "lora" }, 0.04],
  [{ method: "lora", base_dtype: "nf4" }, 0.04],
  [{ method: "full" }, 0.06],
  [{ method: "dora" }, 0.06],
  [{ method: "lora-fa" }, 0.04],
];

for (const [family, make] of Object.entries(FAMILIES)) {
  gpuTest(`${family}: a step takes what is foretold, whatever is trained`, () =>
    inFolder(async (folder) => {
      writeFileSync(`${folder}/text.txt`, TEXT.repeat(4));
      const model = `${folder}/base`;
      await savePretrained(make(), model);
      const few: Partial<TrainConfig> = { lora: { r: 8, target_modules: QV[family] } };
      for (const [change, tolerance] of [...CASES, [few, 0.06] as const]) {
        const output = `${folder}/run-${JSON.stringify(change).replace(/\W/g, "")}`;
        const config: TrainConfig = {
          ...{ model, tokenizer: "bytes", output, ...change },
          lora: change.lora ?? (change.method === "full" ? {} : { r: 8 }),
          data: { train: `${folder}/text.txt`, length: 64 },
          training: { steps: 3, batch: 8, eval_rows: 8, checkpoint_every: 0 },
        };
        const { memory, parameters } = await trainRun(config);
        const sizes = await trainedSizes(model, resolveConfig(config));
        is(sizes.trainable, parameters.trainable, output);
        is(sizes.total, parameters.total, output);
        const foretold = stepMemory(sizes, { batch: 8, length: 64 }).total;
        const ratio = memory!.peak_bytes.total / foretold;
        ok(Math.abs(ratio - 1) < tolerance, `${family} ${JSON.stringify(change)}: ${ratio}`);
      }
    }),
  );
}

runTests();
