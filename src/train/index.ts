// Text, windows, training and evaluation of language models.
export * from "./data/index.ts";
export { evaluate } from "./evaluate.ts";
export { type FitOptions, type FitProgress, type FitResult, fit } from "./fit.ts";
export {
  BYTE_VOCABULARY,
  ByteTokenizer,
  decodeBytes,
  encodeBytes,
  readText,
} from "./text/bytes.ts";
export { type Batch, splitTail, Windows } from "./windows.ts";
