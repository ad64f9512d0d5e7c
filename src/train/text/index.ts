// Text and tokens: `import { loadTokenizer, generateText } from "lowrank/text"`. Tokenizers of folders need
// `@huggingface/tokenizers`, chats `@huggingface/jinja`; bytes need neither.
export {
  BYTE_VOCABULARY,
  ByteTokenizer,
  decodeBytes,
  encodeBytes,
  readText,
} from "./bytes.ts";
export { type ChatOptions, encodeChat, type Message, renderChat } from "./chat.ts";
export { decodeStream, generateText } from "./stream.ts";
export { checkTokenizer, loadTokenizer, type Tokenizer, tokenizerFromJson } from "./tokenizer.ts";
