// What the demo measures of a model beside its loss: logits, latency, samples of text.
import { noGrad } from "../../src/autograd/graph.ts";
import type { Lora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { generate } from "../../src/nn/generate.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { decodeBytes } from "../../src/train/text/bytes.ts";

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

/** The logits of a model in evaluation mode. */
export async function logitsOf(model: CausalLM, ids: Tensor): Promise<Float32Array> {
  using _ = scope();
  model.eval();
  return (await noGrad(() => model.call(ids)).data()) as Float32Array;
}

/** Median time of a forward pass with the adapter merged and unmerged, measured in turns. */
async function latencies(lora: Lora, run: () => Promise<unknown>) {
  const times: { merged: number[]; unmerged: number[] } = { merged: [], unmerged: [] };
  for (let turn = 0; turn < 6; turn++) {
    const state = turn % 2 === 0 ? "merged" : "unmerged";
    if (state === "merged") lora.merge();
    else lora.unmerge();
    await run(); // the merge itself, and what it leaves cold, is not timed
    for (let i = 0; i < 3; i++) {
      const began = performance.now();
      await run();
      times[state].push(performance.now() - began);
    }
  }
  lora.unmerge();
  return { mergedMs: median(times.merged), unmergedMs: median(times.unmerged) };
}

/** How far merging moves the logits, and what it saves. The adapter is unmerged afterwards. */
export async function compareMerged(model: CausalLM, lora: Lora, ids: Tensor) {
  const run = () => logitsOf(model, ids);
  const unmerged = await run();
  lora.merge();
  const merged = await run();
  let [difference, largestLogit] = [0, 0];
  unmerged.forEach((v, i) => {
    difference = Math.max(difference, Math.abs(v - merged[i]!));
    largestLogit = Math.max(largestLogit, Math.abs(v));
  });
  return { difference, largestLogit, ...(await latencies(lora, run)) };
}

/** A text and how the model goes on with it. */
export async function sample(model: CausalLM, prompt: Uint8Array): Promise<string> {
  const tokens = await generate(model, prompt, {
    maxNewTokens: 120,
    temperature: 0.7,
    topK: 40,
    seed: 3,
  });
  return decodeBytes([...prompt, ...tokens]);
}
