// Tokenizers: what the library asks of one, and those of Hugging Face folders, through their own library.
import { FormatError, ValueError } from "../../gpu/errors.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { readJson } from "../../tensor/files.ts";
import { optional } from "../optional.ts";

/** Text to token ids and back. */
export interface Tokenizer {
  /** One more than the highest id that `encode` can give. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly padId: number | null;
  /** Texts of the special tokens by their names, such as `bos_token`; chat templates read them. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Templates of chats by name, in Jinja; `default` is the usual one. */
  readonly chatTemplates: ReadonlyMap<string, string>;
  /**
   * The ids of a text.
   * @param options  `addSpecialTokens`: what the model expects around a text, such as a first token;
   *   default true
   */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /**
   * The text of ids.
   * @param options  `skipSpecialTokens`: leave special tokens out; default false
   */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string;
}

type Json = Readonly<Record<string, unknown>>;

/** What we use of the tokenizer of `@huggingface/tokenizers`. */
interface Inner {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean }): string;
  token_to_id(token: string): number | undefined;
  get_vocab(withAddedTokens: boolean): Map<string, number>;
}

/**
 * Loads the tokenizer of a model folder, through `@huggingface/tokenizers`.
 * @param folder  holds tokenizer.json, and perhaps tokenizer_config.json, special_tokens_map.json and
 *   chat_template.jinja
 * @param options  `model`: whose vocabulary it must fit
 * @throws FormatError for files that cannot be used, ValueError where it does not fit the model,
 *   LowrankError where the package is not installed
 */
export async function loadTokenizer(
  folder: string,
  options: { model?: CausalLM } = {},
): Promise<Tokenizer> {
  const { existsSync } = await import("../../tensor/disk.node.ts");
  const json = await readJson(`${folder}/tokenizer.json`);
  const read = async (file: string) =>
    existsSync(`${folder}/${file}`) ? readJson(`${folder}/${file}`) : {};
  const special = await read("special_tokens_map.json");
  const config: Json = { ...special, ...(await read("tokenizer_config.json")) };
  const template = await readTemplate(`${folder}/chat_template.jinja`);
  const tokenizer = await tokenizerFromJson(
    json,
    template === null ? config : { ...config, chat_template: withTemplate(config, template) },
    folder,
  );
  if (options.model) checkTokenizer(tokenizer, options.model);
  return tokenizer;
}

async function readTemplate(path: string): Promise<string | null> {
  const { existsSync, readFile } = await import("../../tensor/disk.node.ts");
  return existsSync(path) ? readFile(path, "utf8") : null;
}

/** A file of its own replaces the usual template, not the others that have names. */
function withTemplate({ chat_template: old }: Json, template: string): unknown {
  const named = Array.isArray(old) ? old.filter((t) => (t as Json)?.name !== "default") : [];
  return [...named, { name: "default", template }];
}

/**
 * A tokenizer from the contents of tokenizer.json and tokenizer_config.json.
 * @param from  where they came from, for messages
 */
export async function tokenizerFromJson(
  json: Json,
  config: Json = {},
  from = "the tokenizer",
): Promise<Tokenizer> {
  const library = await optional(
    "tokenizer",
    "@huggingface/tokenizers",
    () => import("@huggingface/tokenizers"),
  );
  let inner: Inner;
  try {
    checkKind(json);
    checkIds(json);
    inner = new library.Tokenizer(json, config);
    inner.encode("a", { add_special_tokens: true });
  } catch (error) {
    const why = (error as Error).message;
    throw new FormatError(`tokenizer: ${from} holds no tokenizer that can be used: ${why}.`);
  }
  return new FolderTokenizer(inner, config, from);
}

/** The library takes a kind that it does not know for another one, and gives ids that mean nothing. */
function checkKind({ model }: Json): void {
  const { type } = (model ?? {}) as Json;
  const known = ["BPE", "WordPiece", "Unigram"];
  if (type === undefined || type === null || known.includes(`${type}`)) return;
  throw new Error(`its model is ${JSON.stringify(type)}, not ${known.join(", ")}`);
}

/** The library hands ids out as they stand in the file, whatever they are. */
function checkIds({ model, added_tokens: added }: Json): void {
  const { vocab } = (model ?? {}) as Json;
  const own = vocab !== null && typeof vocab === "object" && !Array.isArray(vocab) ? vocab : {};
  const more = (Array.isArray(added) ? added : []).map((token) => [token?.content, token?.id]);
  for (const [token, id] of [...Object.entries(own), ...more]) {
    if (Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < 2 ** 31) continue;
    throw new Error(`the id of ${JSON.stringify(token)} is ${JSON.stringify(id)}`);
  }
}

class FolderTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly padId: number | null;
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly chatTemplates: ReadonlyMap<string, string>;
  readonly #inner: Inner;

  constructor(inner: Inner, config: Json, from: string) {
    this.#inner = inner;
    let highest = -1;
    for (const id of inner.get_vocab(true).values()) if (id > highest) highest = id;
    this.vocabSize = highest + 1;
    this.specialTokens = specialTokensOf(config);
    this.chatTemplates = chatTemplatesOf(config, from);
    const idOf = (name: string) => inner.token_to_id(this.specialTokens[name] ?? "") ?? null;
    this.bosId = idOf("bos_token");
    this.eosId = idOf("eos_token");
    this.padId = idOf("pad_token");
  }

  encode(text: string, { addSpecialTokens = true } = {}): number[] {
    if (text === "" && !addSpecialTokens) return [];
    return this.#inner.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  decode(ids: ArrayLike<number>, { skipSpecialTokens = false } = {}): string {
    const list = Array.from(ids);
    if (list.length === 0) return "";
    return this.#inner.decode(list, { skip_special_tokens: skipSpecialTokens });
  }
}

/** `bos_token` and the like: plain strings, or objects with their content. */
function specialTokensOf(config: Json): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    if (!name.endsWith("_token")) continue;
    const content = typeof value === "string" ? value : (value as Json | null)?.content;
    if (typeof content === "string") found[name] = content;
  }
  return found;
}

function chatTemplatesOf({ chat_template: given }: Json, from: string): Map<string, string> {
  const list = typeof given === "string" ? [{ name: "default", template: given }] : (given ?? []);
  const isTemplate = (t: unknown): t is { name: string; template: string } =>
    typeof (t as Json)?.name === "string" && typeof (t as Json)?.template === "string";
  if (Array.isArray(list) && list.every(isTemplate)) {
    return new Map(list.map(({ name, template }) => [name, template]));
  }
  throw new FormatError({
    op: "tokenizer",
    arg: `chat_template of ${from}`,
    expected: "a text, or a list of names and templates",
    got: JSON.stringify(given).slice(0, 60),
  });
}

/** Throws ValueError where a tokenizer gives ids that a model has no rows for. */
export function checkTokenizer(tokenizer: Tokenizer, model: CausalLM): void {
  const { vocabSize } = model.sizes;
  if (tokenizer.vocabSize <= vocabSize) return;
  throw new ValueError({
    op: "tokenizer",
    arg: "its ids",
    expected: `below ${vocabSize}, the vocabulary of the ${model.modelType} model`,
    got: `ids up to ${tokenizer.vocabSize - 1}`,
    hint: "Load the tokenizer that belongs to the model.",
  });
}
