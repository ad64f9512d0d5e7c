// Bytes as tokens: the tokenizer of small models. Every text has one, and the vocabulary is 256 with those
// special tokens that one wants.
import { FormatError } from "../../gpu/errors.ts";
import { writeFileSafely } from "../../tensor/files.ts";
import type { Tokenizer } from "./tokenizer.ts";

export const BYTE_VOCABULARY = 256;

/** UTF-8 bytes of a text, one token each. */
export function encodeBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The text of byte tokens; what is not UTF-8 becomes �. */
export function decodeBytes(tokens: ArrayLike<number>): string {
  return new TextDecoder().decode(Uint8Array.from(tokens));
}

/** A tokenizer whose ids are the bytes of a text in UTF-8, and special tokens from 256 on. */
export class ByteTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly padId: number | null;
  readonly chatTemplates: ReadonlyMap<string, string>;
  readonly #ids = new Map<string, number>();

  /**
   * @param specialTokens  texts by name: `bos_token` (put before every text), `eos_token`, `pad_token`,
   *   or names of one's own that end in `_token`. Equal texts are one token
   * @param chatTemplate  a Jinja template for chats
   */
  constructor(
    readonly specialTokens: Readonly<Record<string, string>> = {},
    chatTemplate?: string,
  ) {
    for (const text of Object.values(specialTokens)) {
      if (!this.#ids.has(text)) this.#ids.set(text, BYTE_VOCABULARY + this.#ids.size);
    }
    this.vocabSize = BYTE_VOCABULARY + this.#ids.size;
    this.chatTemplates = new Map(chatTemplate === undefined ? [] : [["default", chatTemplate]]);
    const idOf = (name: string) => this.#ids.get(specialTokens[name] ?? "") ?? null;
    [this.bosId, this.eosId, this.padId] = [
      idOf("bos_token"),
      idOf("eos_token"),
      idOf("pad_token"),
    ];
  }

  encode(text: string, { addSpecialTokens = true } = {}): number[] {
    const ids: number[] = addSpecialTokens && this.bosId !== null ? [this.bosId] : [];
    for (const part of this.#split(text)) {
      const special = this.#ids.get(part);
      if (special !== undefined) ids.push(special);
      else for (const byte of encodeBytes(part)) ids.push(byte);
    }
    return ids;
  }

  /** A text cut before and after its special tokens, of which the longest wins. */
  #split(text: string): string[] {
    if (this.#ids.size === 0) return [text];
    const longestFirst = [...this.#ids.keys()].sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((t) => t.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return text.split(new RegExp(`(${escaped.join("|")})`, "u"));
  }

  decode(ids: ArrayLike<number>, { skipSpecialTokens = false } = {}): string {
    const texts = [...this.#ids.keys()];
    let text = "";
    let bytes: number[] = [];
    for (const id of Array.from(ids)) {
      if (id < BYTE_VOCABULARY) {
        bytes.push(id);
        continue;
      }
      text += decodeBytes(bytes) + (skipSpecialTokens ? "" : (texts[id - BYTE_VOCABULARY] ?? ""));
      bytes = [];
    }
    return text + decodeBytes(bytes);
  }

  /**
   * Writes tokenizer.json and tokenizer_config.json, from which other libraries make a tokenizer with the
   * same ids.
   */
  async save(folder: string): Promise<void> {
    const write = (file: string, json: object) =>
      writeFileSafely(`${folder}/${file}`, `${JSON.stringify(json, null, 1)}\n`);
    const template = this.chatTemplates.get("default");
    await write("tokenizer.json", this.#json());
    await write("tokenizer_config.json", {
      tokenizer_class: "PreTrainedTokenizerFast",
      clean_up_tokenization_spaces: false,
      ...this.specialTokens,
      ...(template === undefined ? {} : { chat_template: template }),
    });
  }

  #json(): object {
    const { bosId } = this;
    const bos = this.specialTokens.bos_token ?? "";
    const added = [...this.#ids].map(([content, id]) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    }));
    const byteLevel = {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: false,
    };
    const first = { SpecialToken: { id: bos, type_id: 0 } };
    const [a, b] = ["A", "B"].map((id) => ({ Sequence: { id, type_id: 0 } }));
    return {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor:
        bosId === null
          ? null
          : {
              type: "TemplateProcessing",
              single: [first, a],
              pair: [first, a, b],
              special_tokens: { [bos]: { id: bos, ids: [bosId], tokens: [bos] } },
            },
      decoder: byteLevel,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(byteCharacters().map((character, byte) => [character, byte])),
        merges: [],
      },
    };
  }
}

/** How GPT-2 writes each byte as a character that can be seen: itself where it can, else from U+0100 on. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: BYTE_VOCABULARY }, (_, byte) => {
    const isVisible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(isVisible ? byte : next++);
  });
}

/**
 * The text of a file, checked to be worth training on.
 * @param path  file name
 * @param atLeast  fewest bytes that make sense
 * @throws FormatError for a missing, empty, tiny or binary file
 */
export async function readText(path: string, atLeast = 1): Promise<Uint8Array> {
  const { readFile } = await import("../../tensor/disk.node.ts");
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const got = (error as Error).message.replace(/, (open|read)\b.*$/s, ""); // "ENOENT: no such file …"
    const expected = "a file that can be read";
    throw new FormatError({ op: "readText", arg: path, expected, got });
  }
  if (bytes.length < atLeast) {
    throw new FormatError({
      op: "readText",
      arg: path,
      expected: `at least ${atLeast} bytes of text`,
      got: bytes.length === 0 ? "an empty file" : `${bytes.length}`,
      hint: "Training and validation windows must both fit.",
    });
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (!text.includes("\0")) return bytes;
  } catch {
    // Not UTF-8: refused below.
  }
  throw new FormatError({
    op: "readText",
    arg: path,
    expected: "UTF-8 text",
    got: "binary data",
    hint: "Convert it to plain text first.",
  });
}
