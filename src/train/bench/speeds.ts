// Tokens a second of a model: of training steps and of generation.
import type { Lora } from "../../lora/lora.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { generateBatchStream } from "../../nn/generate.ts";
import { AdamW } from "../../nn/optim/index.ts";
import { scope } from "../../tensor/scope.ts";
import { TrainStep } from "../train_step.ts";
import { quantile, type Timing, timed } from "./timed.ts";

/** Ids from all of the vocabulary, the same each time. */
function someIds(count: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => (i * 2654435761 + 12345) % vocabSize);
}

/** Gives an adapter's B small values, so that its products are not of zeros. */
export function fillAdapter(lora: Lora): void {
  using _ = scope();
  for (const p of lora.parameters()) {
    p.set(Float32Array.from({ length: p.size }, (_, i) => 0.01 * Math.sin(1 + i)));
  }
}

/**
 * Steps of training: forward, backward, norm and AdamW, as `fit` runs them.
 * @param rows  in a batch
 * @param length  tokens of a row
 */
export async function trainingSpeed(
  model: CausalLM,
  rows: number,
  length: number,
  seconds: number,
): Promise<Timing & { tokensPerSecond: number }> {
  const optimizer = new AdamW(model.trainableParameters(), { lr: 1e-5 });
  const step = new TrainStep(model, optimizer, { batch: rows, accumulate: 1, clip: 1, length });
  const ids = someIds(rows * length, model.sizes.vocabSize);
  const batch = { ids, targets: ids };
  const wasTraining = model.training;
  try {
    model.train();
    // A captured step is replayed from its third run on; the update of one is sent with the next.
    const timing = await timed(
      async () => {
        await step.compute(batch);
        step.update();
      },
      seconds,
      3,
    );
    return { ...timing, tokensPerSecond: (1000 * rows * length) / timing.ms };
  } finally {
    step.dispose();
    optimizer.zeroGrad();
    optimizer.dispose();
    model.train(wasTraining);
  }
}

const PROMPT = 16;

/**
 * Greedy generation behind a prompt of 16 tokens: from the first new token, with which the prompt is done, to the
 * last. The median of three.
 * @param prompts  at once
 */
export async function generationSpeed(
  model: CausalLM,
  prompts: number,
  seconds: number,
): Promise<{ tokensPerSecond: number; newTokens: number }> {
  const { vocabSize, maxLength } = model.sizes;
  const prompt = someIds(Math.min(PROMPT, Math.max(1, maxLength - PROMPT)), vocabSize);
  const all = Array.from({ length: prompts }, () => prompt);
  const wasTraining = model.training;
  model.eval();
  /** Milliseconds of a token of each prompt. */
  const time = async (steps: number) => {
    let began = 0;
    const options = { maxNewTokens: steps + 1, stop: [] };
    for await (const _ of generateBatchStream(model, all, options)) began ||= performance.now();
    return (performance.now() - began) / steps;
  };
  try {
    await time(2);
    const asked = Math.round((1000 * seconds) / 3 / (await time(4)));
    const newTokens = Math.max(4, Math.min(maxLength - prompt.length - 1, 128, asked));
    const times = [await time(newTokens), await time(newTokens), await time(newTokens)];
    return { tokensPerSecond: (1000 * prompts) / quantile(times, 0.5), newTokens };
  } finally {
    model.train(wasTraining);
  }
}
