// Chats as text: the Jinja template of a tokenizer, rendered through `@huggingface/jinja`.
import type { Template } from "@huggingface/jinja";
import { FormatError, LowrankError, ValueError } from "../../gpu/errors.ts";
import { optional } from "../optional.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One turn of a chat. Templates may read more fields, such as `tool_calls`. */
export interface Message {
  role: string;
  content: unknown;
  [field: string]: unknown;
}

export interface ChatOptions {
  /** End with what opens the assistant's turn, so that the model answers. Default false. */
  addGenerationPrompt?: boolean;
  /** Name of one of the tokenizer's templates, or a template. Default: `default`. */
  template?: string;
  /** Tools that the model may call, as JSON schemas. */
  tools?: readonly unknown[];
  /** More variables for the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/**
 * The text of a chat.
 * @throws ValueError where the tokenizer has no such template, FormatError where the template refuses
 *   the messages or is broken
 */
export async function renderChat(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  options: ChatOptions = {},
): Promise<string> {
  const template = templateOf(tokenizer, options.template);
  try {
    return (await compiled(template)).render({
      ...tokenizer.specialTokens,
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? false,
      tools: options.tools ?? null,
      documents: null,
      ...options.variables,
    });
  } catch (error) {
    if (error instanceof LowrankError) throw error;
    throw new FormatError(
      `chat: the template cannot render the chat: ${(error as Error).message}.`,
    );
  }
}

/** The template compiled last: a data set renders one thousands of times. */
let last: { text: string; template: Template } | null = null;

async function compiled(text: string): Promise<Template> {
  if (last?.text === text) return last.template;
  const jinja = await optional("chat", "@huggingface/jinja", () => import("@huggingface/jinja"));
  const template = new jinja.Template(text);
  last = { text, template };
  return template;
}

/** The ids of a chat. The template writes the special tokens; none are added. */
export async function encodeChat(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  options: ChatOptions = {},
): Promise<number[]> {
  const text = await renderChat(tokenizer, messages, options);
  return tokenizer.encode(text, { addSpecialTokens: false });
}

function templateOf({ chatTemplates }: Tokenizer, asked: string | undefined): string {
  const found = chatTemplates.get(asked ?? "default");
  if (found !== undefined) return found;
  if (asked?.includes("{")) return asked;
  const names = [...chatTemplates.keys()].join(", ");
  throw new ValueError({
    op: "chat",
    arg: "template",
    expected: names ? `one of ${names}, or a template` : "given, for the tokenizer has none",
    got: asked ?? "none",
    hint: "A tokenizer's is chat_template in its tokenizer_config.json, or the file chat_template.jinja beside it.",
  });
}
