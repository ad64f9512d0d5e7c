// Samples: what a line of JSONL says is to be learnt, checked.
import type { Message } from "../text/chat.ts";

/** A text, a prompt with its completion, or a chat. */
export type Sample =
  | {
      kind: "text";
      text: string;
      /** More of the same text follows in the next sample. */
      goesOn?: boolean;
    }
  | { kind: "completion"; prompt: string; completion: string }
  | { kind: "chat"; messages: Message[] };

type Json = Readonly<Record<string, unknown>>;

/**
 * The sample of a line of JSONL: an object with `messages`, with `prompt` and `completion`, or with `text`.
 * @throws Error whose message says what is wrong with the line
 */
export function parseSample(line: string): Sample {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Error(`not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`no JSON object: ${line.slice(0, 40)}`);
  }
  const json = value as Json;
  if ("messages" in json) return chatOf(json.messages);
  if ("prompt" in json || "completion" in json) return completionOf(json);
  if ("text" in json) return { kind: "text", text: filled(json, "text") };
  const fields = Object.keys(json).slice(0, 8).join(", ") || "no field";
  throw new Error(`neither text, nor prompt and completion, nor messages, but ${fields}`);
}

function completionOf(json: Json): Sample {
  for (const field of ["prompt", "completion"]) {
    const other = field === "prompt" ? "completion" : "prompt";
    if (!(field in json)) throw new Error(`a ${other} without a ${field}`);
  }
  if (typeof json.prompt !== "string") throw new Error("prompt is no text");
  return { kind: "completion", prompt: json.prompt, completion: filled(json, "completion") };
}

function filled(json: Json, field: string): string {
  const value = json[field];
  if (typeof value !== "string") throw new Error(`${field} is no text`);
  if (value === "") throw new Error(`${field} is empty`);
  return value;
}

function chatOf(messages: unknown): Sample {
  if (!Array.isArray(messages)) throw new Error("messages is no list");
  for (const [i, message] of messages.entries()) {
    const { role, content } = (message ?? {}) as Json;
    if (typeof role !== "string") throw new Error(`messages[${i}] has no role`);
    if (content === undefined) throw new Error(`messages[${i}] has no content`);
  }
  if (messages.some(({ role }) => role === "assistant")) return { kind: "chat", messages };
  throw new Error("messages holds no turn of the assistant, so there is nothing to learn");
}
