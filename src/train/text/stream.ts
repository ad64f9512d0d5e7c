// Text as it is generated: tokens in, pieces of text out, none of which ends inside a character.
import type { CausalLM } from "../../nn/causal_lm.ts";
import { type GenerateOptions, generateStream } from "../../nn/generate.ts";
import { checkTokenizer, type Tokenizer } from "./tokenizer.ts";

/**
 * The text of a stream of tokens, as far as it is certain: a character that takes several tokens comes
 * with the last of them. The pieces together are the text of all tokens.
 * @param after  tokens that stand before them: where a text goes on, decoders keep a blank that they drop at its start
 */
export async function* decodeStream(
  tokenizer: Tokenizer,
  tokens: AsyncIterable<number> | Iterable<number>,
  after: readonly number[] = [],
): AsyncGenerator<string, void> {
  // Decoders treat the start of a text in their own way, so a piece is what the newest tokens add to
  // the text of those just before them.
  let before = [...after];
  let fresh: number[] = [];
  for await (const token of tokens) {
    fresh.push(token);
    const known = tokenizer.decode(before, { skipSpecialTokens: true });
    const text = tokenizer.decode([...before, ...fresh], { skipSpecialTokens: true });
    if (text.endsWith("\uFFFD")) continue; // perhaps the start of a character
    const piece = text.slice(known.length);
    if (piece !== "") yield piece;
    // A special token that is left out is no text to go on from.
    before = piece === "" ? [...before, ...fresh] : fresh;
    fresh = [];
  }
  if (fresh.length === 0) return;
  const known = tokenizer.decode(before, { skipSpecialTokens: true });
  const rest = tokenizer.decode([...before, ...fresh], { skipSpecialTokens: true });
  if (rest.length > known.length) yield rest.slice(known.length);
}

/** Tokens of a prompt that the text after it is decoded with. */
const CONTEXT = 8;

/**
 * The text that follows a prompt, piece by piece.
 * @param prompt  a text, which goes on, or ids such as those of `encodeChat`, after which a new text begins
 * @throws ValueError where the tokenizer does not fit the model
 */
export async function* generateText(
  model: CausalLM,
  tokenizer: Tokenizer,
  prompt: string | ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<string, void> {
  checkTokenizer(tokenizer, model);
  if (typeof prompt !== "string") {
    yield* decodeStream(tokenizer, generateStream(model, prompt, options));
    return;
  }
  const ids = tokenizer.encode(prompt);
  yield* decodeStream(tokenizer, generateStream(model, ids, options), ids.slice(-CONTEXT));
}
