// Text from a model, for one prompt or many: a token at a time, greedy or sampled, with a key/value cache.
import { noGrad } from "../autograd/graph.ts";
import { argmax, slice } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import { tensor } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CausalLM } from "./causal_lm.ts";
import { stopTokens } from "./generation_config.ts";
import type { KVCache } from "./kv_cache.ts";
import { chanceOf, draw, likeliest, processLogits, type Sampling } from "./sampling.ts";

export interface GenerateOptions extends Sampling {
  /** Most tokens to add. Default 64. */
  maxNewTokens?: number;
  /** The same seed gives the same tokens. Default 0. */
  seed?: number;
  /** Tokens that end a text; they are not returned. Default: the checkpoint's `eos_token_id`. */
  stop?: readonly number[];
}

type Complete = Required<GenerateOptions>;
type Prompt = ArrayLike<number>;

function complete(model: CausalLM, prompts: readonly Prompt[], options: GenerateOptions): Complete {
  const { maxLength, vocabSize } = model.sizes;
  const full: Complete = {
    maxNewTokens: 64,
    temperature: 0,
    topK: vocabSize,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    seed: 0,
    stop: stopTokens(model),
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
  };
  const need = (arg: string, good: boolean, expected: string, got: unknown) => {
    if (!good) throw new ValueError({ op: "generate", arg, expected, got: `${got}` });
  };
  const { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty } = full;
  const isCount = Number.isSafeInteger(maxNewTokens) && maxNewTokens >= 0;
  const room = maxLength - maxNewTokens;
  need("maxNewTokens", isCount, "a non-negative integer", maxNewTokens);
  need("temperature", temperature >= 0 && temperature < Infinity, "at least 0", temperature);
  need("topK", Number.isSafeInteger(topK) && topK > 0, "a positive integer", topK);
  need("topP", topP > 0 && topP <= 1, "in (0, 1]", topP);
  need("minP", minP >= 0 && minP <= 1, "in [0, 1]", minP);
  const isPenalty = repetitionPenalty > 0 && repetitionPenalty < Infinity;
  need("repetitionPenalty", isPenalty, "a positive number", repetitionPenalty);
  need("prompts", prompts.length > 0, "at least one prompt", "none");
  for (const [row, { length }] of prompts.entries()) {
    const which = prompts.length > 1 ? `prompt ${row}` : "prompt";
    const fits = `1 to ${room} tokens (${maxLength} fit, ${maxNewTokens} are to come)`;
    need(which, length > 0 && length <= room, fits, length);
  }
  return full;
}

/** Prompts as the rows of one tensor, the shorter ones padded on the left. */
function rows(prompts: readonly Prompt[]): { ids: Int32Array; T: number; pads: number[] } {
  const T = Math.max(...prompts.map(({ length }) => length));
  const ids = new Int32Array(prompts.length * T);
  const pads = prompts.map(({ length }) => T - length);
  for (const [row, prompt] of prompts.entries()) ids.set(Array.from(prompt), row * T + pads[row]!);
  return { ids, T, pads };
}

/**
 * Adds tokens to several prompts at once, one token of each at a time.
 * @param prompts  token ids; each at least one. Their lengths may differ
 * @returns an iterator over steps: the new token of every row, null for rows that have ended
 * @throws ValueError where a prompt and its new tokens do not fit the model's context
 */
export async function* generateBatchStream(
  model: CausalLM,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<(number | null)[], void> {
  const full = complete(model, prompts, options);
  const wasTraining = model.training;
  model.eval();
  const { ids, T, pads } = rows(prompts);
  using cache = model.newCache(prompts.length, T + full.maxNewTokens);
  const seen = prompts.map((prompt) => new Set(Array.from(prompt)));
  const ended = prompts.map(() => false);
  try {
    let next = ids;
    for (let step = 0; step < full.maxNewTokens; step++) {
      const tokens = await nextTokens(model, next, { cache, pads, seen, step }, full);
      for (const [row, token] of tokens.entries()) {
        if (full.stop.includes(token)) ended[row] = true;
        seen[row]!.add(token);
      }
      if (!ended.includes(false)) return;
      yield [...tokens].map((token, row) => (ended[row] ? null : token));
      next = tokens;
    }
  } finally {
    model.train(wasTraining);
  }
}

interface State {
  cache: KVCache;
  pads: number[];
  seen: readonly ReadonlySet<number>[];
  step: number;
}

/** Feeds the newest tokens of all rows and chooses the one that follows each. */
async function nextTokens(
  model: CausalLM,
  ids: Int32Array,
  { cache, pads, seen, step }: State,
  options: Complete,
): Promise<Int32Array> {
  using _ = scope();
  const B = pads.length;
  const T = ids.length / B;
  const last = noGrad(() => {
    const hidden = model.hidden(tensor(ids, [B, T]), cache, { pads }); // [B, T, D]
    return model.logits(slice(hidden, 1, T - 1, T)); // [B, 1, V]: the head of one token, not of all
  });
  const isPlain = options.temperature === 0 && options.repetitionPenalty === 1;
  if (isPlain) return (await argmax(last, -1).data()) as Int32Array; // 4 bytes a row, not all logits
  return choose(last, seen, step, options);
}

async function choose(
  last: Tensor,
  seen: readonly ReadonlySet<number>[],
  step: number,
  options: Complete,
): Promise<Int32Array> {
  const all = (await last.data()) as Float32Array;
  const V = all.length / seen.length;
  return Int32Array.from(seen, (tokens, row) => {
    const logits = processLogits(all.subarray(row * V, (row + 1) * V), tokens, options);
    return options.temperature === 0
      ? likeliest(logits)
      : draw(logits, chanceOf(options.seed, step, row));
  });
}

/**
 * The tokens that follow each of several prompts. A row gets the tokens that it would get alone; where
 * they are drawn, row i of a batch draws its own numbers.
 * @param prompts  token ids; each at least one. Their lengths may differ
 * @throws ValueError where a prompt and its new tokens do not fit the model's context
 */
export async function generateBatch(
  model: CausalLM,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): Promise<number[][]> {
  const texts: number[][] = prompts.map(() => []);
  for await (const tokens of generateBatchStream(model, prompts, options)) {
    for (const [row, token] of tokens.entries()) if (token !== null) texts[row]!.push(token);
  }
  return texts;
}

/** Adds tokens to a prompt one at a time. See `generate`. */
export async function* generateStream(
  model: CausalLM,
  prompt: Prompt,
  options: GenerateOptions = {},
): AsyncGenerator<number, void> {
  for await (const [token] of generateBatchStream(model, [prompt], options)) yield token!;
}

/**
 * The tokens that follow a prompt.
 * @param prompt  token ids, at least one
 * @throws ValueError where prompt and new tokens do not fit the model's context
 */
export async function generate(
  model: CausalLM,
  prompt: Prompt,
  options: GenerateOptions = {},
): Promise<number[]> {
  return (await generateBatch(model, [prompt], options))[0]!;
}
