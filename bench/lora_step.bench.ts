// The whole training step of an adapter beside that of full fine-tuning: forward, backward, clipping and AdamW,
// replayed. The bars: LoRA takes no longer, and with dropout no longer than 1.05 times as long as without.
import { backward } from "../src/autograd/backward.ts";
import { addLora } from "../src/lora/lora.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import { AdamW, clipGradNorm } from "../src/nn/optim/index.ts";
import { capture } from "../src/tensor/capture.ts";
import { tensor } from "../src/tensor/create.ts";
import { manualSeed } from "../src/tensor/philox.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const [ROWS, T, VOCABULARY] = [8, 128, 256];

/** @param dropout  of the adapter; null: no adapter, everything is trained */
function stepOf(width: number, dropout: number | null) {
  manualSeed(3);
  const model = new LlamaForCausalLM({
    vocab_size: VOCABULARY,
    hidden_size: width,
    intermediate_size: (width * 11) / 4,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    max_position_embeddings: T,
    tie_word_embeddings: true,
  });
  if (dropout !== null) {
    addLora(model, { r: 16, lora_alpha: 32, lora_dropout: dropout, target_modules: "all-linear" });
  }
  const optimizer = new AdamW(model.trainableParameters(), { lr: 1e-4 });
  const values = Int32Array.from({ length: ROWS * T }, (_, i) => (i * 7) % VOCABULARY);
  const ids = tensor(values, [ROWS, T]);
  const step = capture(() => {
    const loss = model.loss(ids, ids);
    backward(loss);
    clipGradNorm(optimizer, 1);
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  return { run: () => step(), verify: () => looksAlive(step()) };
}

for (const width of [128, 256]) {
  const what = `width ${width}, ${ROWS}×${T} tokens`;
  bench("lora_step", [
    { name: `full fine-tuning, ${what}`, setup: () => stepOf(width, null) },
    {
      name: `LoRA r 16, ${what}`,
      setup: () => stepOf(width, 0),
      beside: `full fine-tuning, ${what}`,
    },
    {
      name: `LoRA r 16, dropout 0.1, ${what}`,
      setup: () => stepOf(width, 0.1),
      beside: `LoRA r 16, ${what}`,
    },
  ]);
}
