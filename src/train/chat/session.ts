// ChatSession: a conversation with a model, or with one of its adapters; a model without a template of chats goes on
// with a text instead.
import { ValueError } from "../../gpu/errors.ts";
import type { Lora } from "../../lora/lora.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { type GenerateOptions, generateStream } from "../../nn/generate.ts";
import { chosenAdapters } from "../open_model.ts";
import { encodeChat, type Message } from "../text/chat.ts";
import { untilStop } from "../text/stop.ts";
import { decodeStream } from "../text/stream.ts";
import { checkTokenizer, type Tokenizer } from "../text/tokenizer.ts";

export interface ChatSettings extends GenerateOptions {
  /** What the system is told first. */
  system?: string;
  /** Texts that end an answer. */
  stopTexts?: readonly string[];
  /** false: a text that goes on, though there is a template. */
  template?: boolean;
}

/** How an answer ended: by a stop, at its longest, or because it was asked to. */
type AnswerEnd = "stop" | "length" | "aborted";

/** What an answer was. */
export interface Answer {
  text: string;
  ended: AnswerEnd;
  promptTokens: number;
  tokens: number;
  seconds: number;
  /** Turns, or tokens of a text, that were left out at its start, for they did not fit the context. */
  dropped: number;
}

export class ChatSession {
  /** Turns so far, without the system's. */
  readonly history: Message[] = [];
  private text = "";
  private turns = 0;

  /**
   * @param lora  the model's adapters, of which one can be chosen at any time
   * @param settings  may be changed at any time
   * @throws ValueError where the tokenizer does not fit the model
   */
  constructor(
    readonly model: CausalLM,
    readonly tokenizer: Tokenizer,
    readonly lora: Lora | null = null,
    readonly settings: ChatSettings = {},
  ) {
    checkTokenizer(tokenizer, model);
  }

  /** Whether turns are written by the tokenizer's template. */
  get isChat(): boolean {
    return this.settings.template !== false && this.tokenizer.chatTemplates.has("default");
  }

  get adapters(): readonly string[] {
    return this.lora?.adapters ?? [];
  }

  /** The adapters that take part; none: the base alone. */
  get active(): readonly string[] {
    return this.lora?.enabled ? this.lora.activeAdapters : [];
  }

  /**
   * Chooses who answers from now on; nothing is loaded.
   * @param names  an adapter, several `a,b`, whose updates are summed, or `base`
   * @throws ValueError for one that there is not
   */
  use(names: string): void {
    const chosen = chosenAdapters(names, this.adapters);
    if (chosen.length === 0) {
      this.lora?.disable();
      return;
    }
    this.lora!.setAdapter(chosen);
    this.lora!.enable();
  }

  /** Forgets all turns. */
  reset(): void {
    this.history.length = 0;
    this.text = "";
    this.turns = 0;
  }

  /**
   * The answer, piece by piece. What was given of it is in the history, whatever ends it.
   * @param signal  ends it
   * @throws ValueError where the turn alone does not fit the context
   */
  async *answer(said: string, signal?: AbortSignal): AsyncGenerator<string, Answer> {
    const began = performance.now();
    const { ids, dropped } = this.isChat ? await this.chatIds(said) : this.textIds(said);
    const { system: _, stopTexts = [], template: __, ...options } = this.settings;
    const room = this.model.sizes.maxLength - ids.length;
    const maxNewTokens = Math.min(options.maxNewTokens ?? USUAL_TOKENS, room);
    const seed = (options.seed ?? 0) + this.turns;
    const counted = { tokens: 0 };
    const stream = generateStream(this.model, ids, { ...options, maxNewTokens, seed });
    const after = this.isChat ? [] : ids.slice(-8);
    const tokens = until(counting(stream, counted), signal);
    const pieces = untilStop(decodeStream(this.tokenizer, tokens, after), stopTexts);
    let text = "";
    try {
      for (let next = await pieces.next(); ; next = await pieces.next()) {
        if (next.done) {
          const ended = signal?.aborted ? "aborted" : endOf(next.value.stopped, counted.tokens, maxNewTokens); // biome-ignore format: one line
          const seconds = (performance.now() - began) / 1000;
          return { text, ended, promptTokens: ids.length, ...counted, seconds, dropped };
        }
        text += next.value;
        yield next.value;
      }
    } finally {
      await stream.return();
      this.remember(said, text);
    }
  }

  private remember(said: string, answer: string): void {
    this.turns += 1;
    this.text += said + answer;
    this.history.push({ role: "user", content: said }, { role: "assistant", content: answer });
  }

  /** The tokens that must be free for an answer. */
  private get reserve(): number {
    const { maxNewTokens = USUAL_TOKENS } = this.settings;
    return Math.max(1, Math.min(maxNewTokens, Math.floor(this.model.sizes.maxLength / 4)));
  }

  /** The chat with the newest turn; the oldest turns are left out where they do not fit. */
  private async chatIds(said: string): Promise<{ ids: number[]; dropped: number }> {
    const { system } = this.settings;
    const first = system ? [{ role: "system", content: system }] : [];
    const most = this.model.sizes.maxLength - this.reserve;
    for (let from = 0; ; from += 2) {
      const turns = [...this.history.slice(from), { role: "user", content: said }];
      const messages = [...first, ...turns];
      const ids = await encodeChat(this.tokenizer, messages, { addGenerationPrompt: true });
      if (ids.length <= most) return { ids, dropped: from };
      if (from >= this.history.length) throw tooLong(most, ids.length);
    }
  }

  /** The text so far and what was added to it; its start is left out where it does not fit. */
  private textIds(said: string): { ids: number[]; dropped: number } {
    const most = this.model.sizes.maxLength - this.reserve;
    const all = this.tokenizer.encode(this.text + said);
    const own = this.text === "" ? all.length : this.tokenizer.encode(said).length;
    if (own > most) throw tooLong(most, own);
    if (all.length === 0) throw new ValueError({ op: "chat", arg: "the text", expected: "not empty", got: "nothing" }); // biome-ignore format: one line
    const dropped = Math.max(0, all.length - most);
    return { ids: all.slice(dropped), dropped };
  }
}

const USUAL_TOKENS = 256;

function tooLong(most: number, got: number): ValueError {
  return new ValueError({
    op: "chat",
    arg: "the turn",
    expected: `of at most ${most} tokens, what the context has room for`,
    got: `${got}`,
  });
}

function endOf(stopped: boolean, tokens: number, most: number): AnswerEnd {
  return !stopped && tokens >= most ? "length" : "stop";
}

async function* counting(tokens: AsyncIterable<number>, counted: { tokens: number }) {
  for await (const token of tokens) {
    counted.tokens += 1;
    yield token;
  }
}

/** Tokens until the signal is aborted. */
async function* until(tokens: AsyncIterable<number>, signal?: AbortSignal) {
  for await (const token of tokens) {
    if (signal?.aborted) return;
    yield token;
  }
}
