// Exact match: does the model write what is expected, character for character?
import { FormatError, ValueError } from "../../gpu/errors.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { generateBatchStream } from "../../nn/generate.ts";
import { stopTokens } from "../../nn/generation_config.ts";
import { readSamples } from "../data/read.ts";
import type { Sample } from "../data/sample.ts";
import { checkCount } from "../rows.ts";
import { encodeChat } from "../text/chat.ts";
import { firstStop } from "../text/stop.ts";
import { checkTokenizer, type Tokenizer } from "../text/tokenizer.ts";

/** What is asked, and what is to be answered. */
export interface Question {
  /** The prompt's tokens. */
  ids: number[];
  expected: string;
  /** Whether the answer goes on with the prompt's text; false: it is a text of its own, as in a chat. */
  goesOn: boolean;
}

/** Ways to overlook differences that do not matter, in this order. */
const NORMALISATIONS = ["lowercase", "punctuation", "whitespace", "strip"] as const;
export type Normalisation = (typeof NORMALISATIONS)[number];

export interface ExactMatchOptions {
  /** What is overlooked, on both sides: the case; punctuation; how wide blanks are; blanks at the ends. Default: strip. */
  normalise?: readonly Normalisation[];
  /** Most tokens of an answer. Default: those of the longest expected one, and 8. */
  maxNewTokens?: number;
  /** Prompts at once. Default 8. */
  batch?: number;
  /** Texts that end an answer and are no part of it. */
  stopTexts?: readonly string[];
  /** Tokens that end an answer. Default: the checkpoint's, and the tokenizer's end of a text. */
  stop?: readonly number[];
  onAnswer?: (done: number, of: number) => void;
}

export interface MatchedAnswer {
  text: string;
  expected: string;
  isHit: boolean;
}

/**
 * The questions of files: prompts with completions, and chats, of which the last turn of the assistant is expected.
 * @param onBad  where given, gets file, line and reason of a sample that is neither or cannot be read, which is passed over
 * @throws FormatError with the same where it is not given, and where no question is left
 */
export async function readQuestions(
  tokenizer: Tokenizer,
  paths: readonly string[],
  onBad?: (problem: string) => void,
): Promise<Question[]> {
  const questions: Question[] = [];
  for await (const { file, line, sample, problem } of readSamples(paths)) {
    try {
      if (!sample) throw new Error(problem);
      questions.push(await questionOf(tokenizer, sample));
    } catch (error) {
      const problem = `${file}, line ${line}: ${(error as Error).message.replace(/\.$/, "")}`;
      if (!onBad) throw new FormatError(`exactMatch: ${problem}.`);
      onBad(problem);
    }
  }
  if (questions.length > 0) return questions;
  const arg = paths.join(", ");
  throw new FormatError({ op: "exactMatch", arg, expected: "at least one question", got: "none" });
}

/**
 * The question of a sample.
 * @throws Error that says why there is none
 */
export async function questionOf(tokenizer: Tokenizer, sample: Sample): Promise<Question> {
  if (sample.kind === "text") throw new Error("a text has no answer: give prompt and completion, or messages"); // biome-ignore format: one line
  if (sample.kind === "completion") {
    const ids = tokenizer.encode(sample.prompt);
    if (ids.length === 0) throw new Error("the prompt is empty");
    return { ids, expected: sample.completion, goesOn: true };
  }
  const last = sample.messages.map(({ role }) => role).lastIndexOf("assistant");
  const expected = sample.messages[last]!.content;
  if (typeof expected !== "string") throw new Error(`content of messages[${last}] is no text`);
  const before = sample.messages.slice(0, last);
  const ids = await encodeChat(tokenizer, before, { addGenerationPrompt: true });
  return { ids, expected, goesOn: false };
}

/** A text without the differences that are overlooked. */
export function normalised(text: string, ways: readonly Normalisation[]): string {
  let out = text;
  if (ways.includes("lowercase")) out = out.toLowerCase();
  if (ways.includes("punctuation")) out = out.replace(/\p{P}/gu, "");
  if (ways.includes("whitespace")) out = out.replace(/\s+/gu, " ");
  return ways.includes("strip") ? out.trim() : out;
}

/**
 * The likeliest answer to each question, and whether it is the expected one.
 * @throws ValueError where a prompt leaves no room for an answer, or an option is out of range
 */
export async function exactMatch(
  model: CausalLM,
  tokenizer: Tokenizer,
  questions: readonly Question[],
  options: ExactMatchOptions = {},
): Promise<MatchedAnswer[]> {
  const { normalise = ["strip"], batch = 8, stopTexts = [], onAnswer } = options;
  const maxNewTokens = options.maxNewTokens ?? longestAnswer(tokenizer, questions) + 8;
  check(model, tokenizer, questions, normalise, { batch, maxNewTokens });
  const own = [...stopTokens(model), ...(tokenizer.eosId === null ? [] : [tokenizer.eosId])];
  const settings = {
    maxNewTokens,
    stop: options.stop ?? own,
    stopTexts: stopTexts.filter(Boolean),
  };
  const texts: string[] = [];
  // Prompts of about one length together, so that there is little padding.
  const order = [...questions.keys()].sort((a, b) => questions[a]!.ids.length - questions[b]!.ids.length); // biome-ignore format: one line
  for (let first = 0; first < order.length; first += batch) {
    const chosen = order.slice(first, first + batch);
    const answers = await answersTo(model, tokenizer, chosen.map((i) => questions[i]!), settings); // biome-ignore format: one line
    for (const [k, i] of chosen.entries()) texts[i] = answers[k]!;
    onAnswer?.(first + chosen.length, order.length);
  }
  return questions.map(({ expected }, i) => {
    const text = texts[i]!;
    return { text, expected, isHit: normalised(text, normalise) === normalised(expected, normalise) }; // biome-ignore format: one line
  });
}

interface Settings {
  maxNewTokens: number;
  stop: readonly number[];
  stopTexts: readonly string[];
}

/** Greedy answers to some questions at once; a row that has met a stop is no longer waited for. */
async function answersTo(
  model: CausalLM,
  tokenizer: Tokenizer,
  questions: readonly Question[],
  { maxNewTokens: most, stop, stopTexts }: Settings,
): Promise<string[]> {
  const prompts = questions.map(({ ids }) => ids);
  const room = model.sizes.maxLength - Math.max(...prompts.map(({ length }) => length));
  const maxNewTokens = Math.min(most, room);
  const tokens: number[][] = questions.map(() => []);
  const ended = questions.map(() => false);
  const textAt = (i: number) => answerText(tokenizer, questions[i]!, tokens[i]!);
  const stream = generateBatchStream(model, prompts, { temperature: 0, maxNewTokens, stop });
  for await (const step of stream) {
    for (const [i, token] of step.entries()) {
      if (ended[i]) continue;
      if (token === null) ended[i] = true;
      else tokens[i]!.push(token);
      if (stopTexts.length > 0 && firstStop(textAt(i), stopTexts) >= 0) ended[i] = true;
    }
    if (!ended.includes(false)) break;
  }
  return questions.map((_, i) => {
    const text = textAt(i);
    const at = firstStop(text, stopTexts);
    return at < 0 ? text : text.slice(0, at);
  });
}

function answerText(tokenizer: Tokenizer, { ids, goesOn }: Question, tokens: number[]): string {
  const decode = (list: number[]) => tokenizer.decode(list, { skipSpecialTokens: true });
  if (!goesOn) return decode(tokens);
  // As in decodeStream: the end of the prompt stands before, so that no blank is lost.
  const before = ids.slice(-8);
  return decode([...before, ...tokens]).slice(decode(before).length);
}

function longestAnswer(tokenizer: Tokenizer, questions: readonly Question[]): number {
  const sizes = questions.map((q) => tokenizer.encode(q.expected, { addSpecialTokens: false }).length); // biome-ignore format: one line
  return Math.max(0, ...sizes);
}

function check(
  model: CausalLM,
  tokenizer: Tokenizer,
  questions: readonly Question[],
  normalise: readonly string[],
  counts: Readonly<Record<string, number>>,
): void {
  const op = "exactMatch";
  checkTokenizer(tokenizer, model);
  for (const [arg, n] of Object.entries(counts)) checkCount(op, arg, n);
  if (questions.length === 0) {
    throw new ValueError({ op, arg: "questions", expected: "at least one", got: "none" });
  }
  const odd = normalise.find((way) => !(NORMALISATIONS as readonly string[]).includes(way));
  if (odd !== undefined) {
    const expected = `made of ${NORMALISATIONS.join(", ")}`;
    throw new ValueError({ op, arg: "normalise", expected, got: odd });
  }
  const most = model.sizes.maxLength - 1;
  const long = questions.findIndex(({ ids }) => ids.length > most);
  if (long < 0) return;
  const expected = `of at most ${most} tokens, so that there is room for an answer`;
  throw new ValueError({ op, arg: `the prompt of question ${long + 1}`, expected, got: `${questions[long]!.ids.length}` }); // biome-ignore format: one line
}
