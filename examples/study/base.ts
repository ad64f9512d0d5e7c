// Trains the study's base from nothing on presidents' addresses: `npm run study -- --base`. About a quarter of an hour
// on lavapipe with two cores to itself.
import { readFile } from "node:fs/promises";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { savePretrained } from "../../src/nn/pretrained.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import type { Paths } from "./corpora.ts";

export const LENGTH = 128;

/**
 * Trains the base, or goes on where a run before ended, and saves it as a Hugging Face folder in f16.
 * @param folder  gets the model; checkpoints lie beside it
 */
export async function trainBase(folder: string, { speeches }: Paths): Promise<void> {
  manualSeed(1);
  const model = new LlamaForCausalLM({
    vocab_size: 256,
    hidden_size: 128,
    intermediate_size: 352,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 512,
    tie_word_embeddings: true,
  });
  await fit(model, {
    train: new Windows(await readFile(speeches.train), LENGTH),
    steps: 4000,
    batch: 8,
    lr: 3e-3,
    warmup: 100,
    weightDecay: 0.01,
    seed: 1,
    checkpoint: { folder: `${folder}-checkpoint`, every: 200, resume: "if-present" },
    onStep: ({ step, steps, smoothedLoss }) => {
      if (step % 200 === 0)
        console.log(`base: step ${step} of ${steps}, loss ${smoothedLoss.toFixed(3)}`);
    },
  });
  await savePretrained(model, folder, { dtype: "f16" });
}
