// Text from a model: one token at a time, greedy or sampled, with a key/value cache.
import { noGrad } from "../autograd/graph.ts";
import { slice } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import { tensor } from "../tensor/create.ts";
import { philox4x32 } from "../tensor/philox.ts";
import { scope } from "../tensor/scope.ts";
import type { CausalLM } from "./causal_lm.ts";
import type { KVCache } from "./kv_cache.ts";

export interface GenerateOptions {
  /** Most tokens to add. Default 64. */
  maxNewTokens?: number;
  /** 0 takes the likeliest token; otherwise logits are divided by it and sampled. Default 0. */
  temperature?: number;
  /** Sample among the k likeliest tokens only. Default: all. */
  topK?: number;
  /** Sample among the likeliest tokens that together hold this probability. Default 1. */
  topP?: number;
  /** The same seed gives the same tokens. Default 0. */
  seed?: number;
  /** Tokens that end the text; they are not returned. */
  stop?: readonly number[];
}

type Complete = Required<GenerateOptions>;

function complete(model: CausalLM, prompt: ArrayLike<number>, options: GenerateOptions): Complete {
  const { maxLength, vocabSize } = model.sizes;
  const full: Complete = {
    maxNewTokens: 64,
    temperature: 0,
    topK: vocabSize,
    topP: 1,
    seed: 0,
    stop: [],
    ...options,
  };
  const need = (arg: string, good: boolean, expected: string, got: unknown) => {
    if (!good) throw new ValueError({ op: "generate", arg, expected, got: `${got}` });
  };
  const { maxNewTokens, temperature, topK, topP } = full;
  const isCount = Number.isSafeInteger(maxNewTokens) && maxNewTokens >= 0;
  const room = maxLength - maxNewTokens;
  need("maxNewTokens", isCount, "a non-negative integer", maxNewTokens);
  need("temperature", temperature >= 0 && temperature < Infinity, "at least 0", temperature);
  need("topK", Number.isSafeInteger(topK) && topK > 0, "a positive integer", topK);
  need("topP", topP > 0 && topP <= 1, "in (0, 1]", topP);
  need(
    "prompt",
    prompt.length > 0 && prompt.length <= room,
    `1 to ${room} tokens (${maxLength} fit, ${maxNewTokens} are to come)`,
    prompt.length,
  );
  return full;
}

/** Adds tokens to a prompt one at a time. See `generate`. */
export async function* generateStream(
  model: CausalLM,
  prompt: ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void> {
  const full = complete(model, prompt, options);
  const wasTraining = model.training;
  model.eval();
  using cache = model.newCache(1, prompt.length + full.maxNewTokens);
  try {
    let next = Int32Array.from(prompt);
    for (let i = 0; i < full.maxNewTokens; i++) {
      const token = choose(await lastLogits(model, next, cache), full, i);
      if (full.stop.includes(token)) return;
      yield token;
      next = Int32Array.of(token);
    }
  } finally {
    model.train(wasTraining);
  }
}

/**
 * The tokens that follow a prompt.
 * @param prompt  token ids, at least one
 * @throws ValueError where prompt and new tokens do not fit the model's context
 */
export async function generate(
  model: CausalLM,
  prompt: ArrayLike<number>,
  options: GenerateOptions = {},
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generateStream(model, prompt, options)) tokens.push(token);
  return tokens;
}

async function lastLogits(model: CausalLM, ids: Int32Array, cache: KVCache): Promise<Float32Array> {
  using _ = scope();
  const T = ids.length;
  const last = noGrad(() => {
    const hidden = model.hidden(tensor(ids, [1, T]), cache); // [1, T, D]
    return model.logits(slice(hidden, 1, T - 1, T)); // [1, 1, V]: the head of one token, not of all
  });
  return (await last.data()) as Float32Array;
}

function choose(logits: Float32Array, options: Complete, step: number): number {
  const { temperature, topK, topP, seed } = options;
  if (temperature === 0) return logits.reduce((best, v, i) => (v > logits[best]! ? i : best), 0);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const top = logits[order[0]!]!;
  const weights = order.slice(0, topK).map((id) => Math.exp((logits[id]! - top) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let kept = 0;
  let mass = 0;
  while (kept < weights.length && mass < topP * total) mass += weights[kept++]!;
  const [word] = philox4x32([step, 0, 0, 0], [seed >>> 0, 0x67656e]);
  let left = (word / 2 ** 32) * mass;
  for (let i = 0; i < kept; i++) {
    left -= weights[i]!;
    if (left < 0) return order[i]!;
  }
  return order[kept - 1]!;
}
