// A model, its tokenizer and its adapters by the names that people type. Node only.
import { existsSync } from "node:fs";
import { ValueError } from "../gpu/errors.ts";
import { nearest } from "../lora/nearest.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { readJson } from "../tensor/files.ts";
import type { HubOptions } from "./hub/settings.ts";
import { BYTE_VOCABULARY, ByteTokenizer } from "./text/bytes.ts";
import { checkTokenizer, loadTokenizer, type Tokenizer } from "./text/tokenizer.ts";

type OnDownload = HubOptions["onProgress"];

/** Whether a name is one of the hub's, `org/name`. */
function isHubName(name: string): boolean {
  return /^[\w.-]+\/[\w.-]+$/.test(name) && !/^\.{1,2}\//.test(name);
}

async function fromHubCache(name: string, onProgress: OnDownload): Promise<string> {
  const { snapshot } = await import("./hub/snapshot.ts");
  return snapshot(name, onProgress ? { onProgress } : {});
}

/**
 * The folder of a model.
 * @param name  a folder with config.json, or `org/name` of the hub, which is fetched
 * @throws ValueError where it is neither, and what the hub says
 */
export async function modelFolder(name: string, onDownload?: OnDownload): Promise<string> {
  if (existsSync(`${name}/config.json`)) return name.replace(/(?<=.)\/+$/, "");
  if (!existsSync(name) && isHubName(name)) return fromHubCache(name, onDownload);
  const expected = "a folder with config.json, or org/name of the hub";
  const got = existsSync(name) ? `${name}, which has none` : `${name}, which is not there`;
  throw new ValueError({ op: "open", arg: "the model", expected, got });
}

/**
 * The folder of an adapter.
 * @param name  a folder with adapter_config.json, one of a run, which has it in `adapter`, or `org/name` of the hub
 * @throws ValueError where it is none of these, and what the hub says
 */
export async function adapterFolder(name: string, onDownload?: OnDownload): Promise<string> {
  const found = [name, `${name}/adapter`].find((f) => existsSync(`${f}/adapter_config.json`));
  if (found) return found.replace(/(?<=.)\/+$/, "");
  if (!existsSync(name) && isHubName(name)) return fromHubCache(name, onDownload);
  const expected = "a folder with adapter_config.json, one of a run, or org/name of the hub";
  const got = existsSync(name) ? `${name}, which has none` : `${name}, which is not there`;
  throw new ValueError({ op: "open", arg: "the adapter", expected, got });
}

/**
 * The base that an adapter's config names, where it can be found.
 * @param folder  of the adapter
 * @returns a folder that is there, or a name of the hub; null where it names none
 */
export async function baseOf(folder: string): Promise<string | null> {
  const { base_model_name_or_path: base } = await readJson(`${folder}/adapter_config.json`);
  if (typeof base !== "string" || base === "") return null;
  return existsSync(base) || isHubName(base) ? base : null;
}

/**
 * The tokenizer of a model.
 * @param folder  of the model
 * @param asked  a folder with tokenizer.json, or `bytes`. Default: the model's own; where it has none and a
 *   vocabulary of 256, bytes
 * @throws ValueError where there is none, or it does not fit the model; FormatError for damaged files
 */
export async function openTokenizer(
  folder: string,
  model: CausalLM,
  asked?: string,
): Promise<Tokenizer> {
  const { vocabSize } = model.sizes;
  const own = asked ?? (existsSync(`${folder}/tokenizer.json`) ? folder : null);
  if (own === "bytes" || (own === null && vocabSize === BYTE_VOCABULARY)) {
    const bytes = new ByteTokenizer();
    checkTokenizer(bytes, model);
    return bytes;
  }
  if (own !== null) return loadTokenizer(own, { model });
  throw new ValueError({
    op: "open",
    arg: "the tokenizer",
    expected: `named, for ${folder} holds no tokenizer.json and its vocabulary of ${vocabSize} is not bytes`,
    got: "nothing",
    hint: "Name a folder with tokenizer.json, or bytes.",
  });
}

/** An adapter as it is asked for: `folder`, or `name=folder`. */
export interface NamedAdapter {
  name: string;
  /** What stands behind the name. */
  source: string;
}

/**
 * Adapters with names of their own: the given ones, or the last parts of their folders.
 * @param asked  `folder` or `name=folder` each
 * @throws ValueError for a name that stands twice, or cannot be one
 */
export function nameAdapters(asked: readonly string[]): NamedAdapter[] {
  const names = new Set<string>();
  return asked.map((text) => {
    const [, given, rest] = text.match(/^([^=/\\]+)=(.+)$/s) ?? [];
    const source = rest ?? text;
    const name = given ?? nameOf(source, names);
    const refuse = (expected: string) => {
      throw new ValueError({ op: "open", arg: "the adapter's name", expected, got: name });
    };
    if (!/^[^.\s/\\,]+$/.test(name)) refuse("without dots, slashes, commas and blanks");
    if (["base", "__base__"].includes(name)) refuse("another than base, which is the model without adapters"); // biome-ignore format: one line
    if (names.has(name)) refuse(`a new one, as in ${name}2=${source}`);
    names.add(name);
    return { name, source };
  });
}

/** The last part of a path that says something, with a number where it is taken. */
function nameOf(source: string, taken: ReadonlySet<string>): string {
  const parts = source.split(/[/\\]+/).filter((part) => !["", ".", "..", "adapter"].includes(part));
  const last = (parts.at(-1) ?? "adapter").replace(/[.\s,=]+/g, "-").replace(/^-+|-+$/g, "");
  const base = last === "" || last === "base" || last === "__base__" ? "adapter" : last;
  if (!taken.has(base)) return base;
  for (let i = 2; ; i++) if (!taken.has(`${base}${i}`)) return `${base}${i}`;
}

/**
 * The names of a list `a,b`; `base` for none.
 * @throws ValueError for one that there is not, with the nearest
 */
export function chosenAdapters(text: string, known: readonly string[]): string[] {
  const names = text.split(",").map((name) => name.trim()).filter(Boolean); // biome-ignore format: one line
  if (names.length === 1 && names[0] === "base") return [];
  for (const name of names) {
    if (known.includes(name)) continue;
    const all = [...known, "base"];
    const hint = `Did you mean ${nearest(name, all)}?`;
    const expected = `one of ${all.join(", ")}`;
    throw new ValueError({ op: "adapter", arg: "the name", expected, got: name, hint });
  }
  return names;
}
