// Examples: the tokens of a sample, and which of them are learnt, exact to the token.

import { IGNORED } from "../rows.ts";
import { type ChatOptions, type Message, renderChat } from "../text/chat.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Sample } from "./sample.ts";

/** Tokens, and for each the token itself where it is to be learnt, −100 where not. */
export interface Example {
  ids: Int32Array;
  labels: Int32Array;
}

export interface EncodeOptions {
  /** What is learnt of prompts with completions and of chats: completions (the assistant's turns), or all. */
  learn?: "completions" | "all";
  /** Of a chat, learn each of the assistant's turns, or the last one. Default `all`. */
  turns?: "all" | "last";
  /** How chats are written. Default: the tokenizer's template. */
  chat?: Omit<ChatOptions, "addGenerationPrompt">;
}

/**
 * The example of a sample.
 * A text is learnt whole, with the token that ends texts behind it where the tokenizer has one. Prompt and
 * completion are encoded as one text: learnt are the tokens that follow those the prompt alone would have, and
 * the end. Of a chat the assistant's turns are learnt, from where generation begins through the marks that the
 * template writes behind the turn.
 * @throws Error, FormatError, ValueError that say why it cannot be encoded
 */
export async function encodeSample(
  tokenizer: Tokenizer,
  sample: Sample,
  options: EncodeOptions = {},
): Promise<Example> {
  const all = options.learn === "all";
  if (sample.kind === "chat") return encodeTurns(tokenizer, sample.messages, options);
  const prompt = sample.kind === "text" ? "" : sample.prompt;
  const text = sample.kind === "text" ? sample.text : prompt + sample.completion;
  const ids = tokenizer.encode(text);
  const goesOn = sample.kind === "text" && sample.goesOn === true;
  const { eosId } = tokenizer;
  if (eosId !== null && !goesOn && ids.at(-1) !== eosId) ids.push(eosId);
  const isWhole = all || sample.kind === "text";
  const from = isWhole ? 0 : commonLength(tokenizer.encode(prompt), ids);
  return learning(ids, [[from, ids.length]]);
}

async function encodeTurns(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  { learn, turns = "all", chat = {} }: EncodeOptions,
): Promise<Example> {
  const render = (count: number, addGenerationPrompt: boolean) =>
    renderChat(tokenizer, messages.slice(0, count), { ...chat, addGenerationPrompt });
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const whole = await render(messages.length, false);
  const ids = encode(whole);
  if (learn === "all") return learning(ids, [[0, ids.length]]);
  const assistants = [...messages.keys()].filter((i) => messages[i]!.role === "assistant");
  const ranges: [number, number][] = [];
  for (const i of turns === "last" ? assistants.slice(-1) : assistants) {
    const [before, through] = [await render(i, true), await render(i + 1, false)];
    if (!whole.startsWith(through) || !through.startsWith(before)) throw new Error(rewritten(i));
    ranges.push([commonLength(encode(before), ids), commonLength(encode(through), ids)]);
  }
  return learning(ids, ranges);
}

const rewritten = (i: number) =>
  `the chat template writes what stands before or in messages[${i}] in another way once the chat goes on, so ` +
  "that its tokens cannot be told; learn the last turn alone (turns: last), or give a template that does not";

/** How many tokens two lists have in common at their start. */
function commonLength(a: readonly number[], b: readonly number[]): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}

function learning(ids: readonly number[], ranges: readonly [number, number][]): Example {
  const labels = new Int32Array(ids.length).fill(IGNORED);
  for (const [from, to] of ranges) labels.set(ids.slice(from, to), from);
  return { ids: Int32Array.from(ids), labels };
}

/** How many tokens of an example have a token before them from which they are learnt. */
export function learntTokens({ labels }: Example): number {
  return labels.subarray(1).reduce((n, label) => n + (label === IGNORED ? 0 : 1), 0);
}
