// `lowrank generate`: text from a model or its adapters, and a chat in the terminal.
import { text as allOf } from "node:stream/consumers";
import type { Command } from "commander";
import type { GenerateOptions } from "../nn/generate.ts";
import { generationOptions } from "../nn/generation_config.ts";
import { type Answer, ChatSession, type ChatSettings } from "../train/chat/session.ts";
import { action, examples, number } from "./action.ts";
import { chat } from "./chat.ts";
import { INTERRUPTED, UsageError } from "./errors.ts";
import { interruptible } from "./interrupt.ts";
import {
  addAdapters,
  addModelOptions,
  collect,
  findModel,
  type ModelOptions,
  openModel,
} from "./models.ts";
import type { Output } from "./output.ts";
import { figureText } from "./text.ts";

const EXAMPLES = examples({
  'lowrank generate -m models/stories --tokenizer bytes --prompt "Once upon a time"':
    "goes on with a text",
  'lowrank generate -a out/run --prompt "What is a rank?" --chat': "asks an adapter, by the template of its base's tokenizer", // biome-ignore format: one line
  "echo 'Dear Sir,' | lowrank generate -m org/name --temperature 0.8 --top-p 0.95": "draws; the prompt comes from a pipe, the model from the hub", // biome-ignore format: one line
  "lowrank generate -m models/base -a a=out/one -a b=out/two --interactive":
    "a chat, in which /adapter b switches on the fly",
  'lowrank generate -a out/run --prompt "2 + 2 =" --stop "\\n" --json | jq .text': "for a script",
});

interface Options extends ModelOptions {
  prompt?: string;
  interactive?: boolean;
  chat?: boolean;
  raw?: boolean;
  system?: string;
  use?: string;
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  stop?: string[];
}

export function addGenerate(program: Command): void {
  const command = program
    .command("generate")
    .summary("writes text with a model or an adapter, or chats in the terminal")
    .description(
      "Writes the text that follows a prompt, on stdout, as it comes. Without --prompt the prompt is\n" +
        "what stdin holds. Sampling is what the model's generation_config.json asks for, but for what\n" +
        "flags say; where neither says anything, the likeliest token is taken.",
    );
  addModelOptions(command)
    .option("-p, --prompt <text>", "what the text begins with (default: stdin)")
    .option("-i, --interactive", "a chat in the terminal; /help shows its commands")
    .option("--chat", "the prompt is a turn of a chat, written by the tokenizer's template")
    .option("--raw", "with --interactive: a text that goes on, though there is a template")
    .option("--system <text>", "what the system is told first, in a chat")
    .option("--use <names>", "which adapters answer: one, or a,b for their sum, or base (default: the first)") // biome-ignore format: one line
    .option("-n, --max-tokens <n>", "most tokens to add (default: 256)", number("--max-tokens", "an integer of at least 0"))
    .option("--temperature <t>", "0: the likeliest token; else draws, the more surprising the higher", number("--temperature", "a number of at least 0")) // biome-ignore format: one line
    .option("--top-k <k>", "draws among the k likeliest tokens", number("--top-k", "a positive integer"))
    .option("--top-p <p>", "draws among the tokens that together hold this probability", number("--top-p", "a number above 0 and at most 1")) // biome-ignore format: one line
    .option("--min-p <p>", "draws among tokens at least this many times as likely as the likeliest", number("--min-p", "a number between 0 and 1")) // biome-ignore format: one line
    .option("--repetition-penalty <x>", "above 1: repeats less", number("--repetition-penalty", "a number above 0"))
    .option("--seed <n>", "the same seed gives the same text (default: 0)", number("--seed"))
    .option("--stop <text>", "ends the text, and is not part of it; several times for several; \\n is a new line", collect) // biome-ignore format: one line
    .addHelpText("after", EXAMPLES)
    .action(action<Options>(generate));
}

async function generate(output: Output, options: Options): Promise<number> {
  checkCall(output, options);
  const found = await findModel(output, options);
  const prompt = options.interactive ? "" : await promptOf(options);
  const { model, tokenizer } = await openModel(output, found, options);
  try {
    const lora = await addAdapters(model, found.adapters);
    const settings = settingsOf(options, generationOptions(model));
    const session = new ChatSession(model, tokenizer, lora, settings);
    if (options.use !== undefined) session.use(options.use);
    if ((options.chat || options.system) && !session.isChat && !options.interactive) {
      const expected = "given with a tokenizer that has a chat template";
      const arg = options.chat ? "--chat" : "--system";
      throw new UsageError({ op: "lowrank", arg, expected, got: "one without" });
    }
    if (options.interactive) {
      if (process.stdin.isTTY) output.note(greeting(session, found.model));
      await chat(session, { input: process.stdin, output: process.stdout, notes: process.stderr });
      return 0;
    }
    return await once(output, session, prompt, { model: found.model });
  } finally {
    model.dispose();
  }
}

function greeting({ isChat, adapters }: ChatSession, model: string): string {
  const kind = isChat ? "a chat" : "no chat template: your lines and its answers are one text that goes on"; // biome-ignore format: one line
  const names = adapters.length > 0 ? ` with ${adapters.join(", ")}` : "";
  return `${model}${names} (${kind}). /help shows the commands; Ctrl-C stops an answer, Ctrl-D leaves.`;
}

function checkCall(
  output: Output,
  { interactive, prompt, raw, chat, use, adapter }: Options,
): void {
  const refuse = (arg: string, expected: string, got: string) => {
    throw new UsageError({ op: "lowrank", arg, expected, got });
  };
  if (interactive && prompt !== undefined) refuse("--prompt", "absent with --interactive", "both");
  if (interactive && output.json) refuse("--json", "absent with --interactive", "both");
  if (raw && !interactive) refuse("--raw", "given with --interactive", "none");
  if (raw && chat) refuse("--raw", "absent with --chat", "both");
  if (use !== undefined && !adapter) refuse("--use", "given with --adapter", "none");
}

async function promptOf({ prompt }: Options): Promise<string> {
  if (prompt !== undefined) return prompt;
  if (process.stdin.isTTY) {
    const hint = "Or pipe it in, or chat with --interactive.";
    throw new UsageError({ op: "lowrank", arg: "--prompt", expected: "given", got: "nothing", hint }); // biome-ignore format: one line
  }
  return (await allOf(process.stdin)).replace(/\r?\n$/, "");
}

/** The model's own settings, and over them those of the flags. */
function settingsOf(o: Options, own: GenerateOptions): ChatSettings {
  const { maxTokens: maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, seed } = o;
  const flags = { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, seed };
  const given = Object.fromEntries(Object.entries(flags).filter(([, v]) => v !== undefined));
  return {
    ...own,
    ...given,
    ...(o.system === undefined ? {} : { system: o.system }),
    template: o.interactive ? !o.raw : Boolean(o.chat || o.system),
    stopTexts: (o.stop ?? []).map((text) => text.replaceAll("\\n", "\n").replaceAll("\\t", "\t")),
  };
}

/** One answer: pieces on stdout as they come, or all of it as JSON. */
async function once(output: Output, session: ChatSession, prompt: string, facts: object) {
  return interruptible(
    async (signal) => {
      const pieces = session.answer(prompt, signal);
      for (let next = await pieces.next(); ; next = await pieces.next()) {
        if (!next.done) {
          if (!output.json) process.stdout.write(next.value);
          continue;
        }
        output.say();
        const rate = next.value.tokens / next.value.seconds;
        output.document({ ...facts, adapters: session.active, prompt, ...asJson(next.value), tokens_per_second: rate }); // biome-ignore format: one line
        if (process.stderr.isTTY) output.note(`(${next.value.tokens} tokens, ${figureText(rate, 3)} a second, ended by ${next.value.ended})`); // biome-ignore format: one line
        return signal.aborted ? INTERRUPTED : 0;
      }
    },
    () => {},
  );
}

function asJson({ text, ended, promptTokens, tokens, seconds, dropped }: Answer) {
  return { text, ended, prompt_tokens: promptTokens, tokens, seconds, dropped };
}
