// A run that takes a second: a fixture's model, a tokenizer of letters, a short text.
import { writeFileSync } from "node:fs";
import type { TrainConfig } from "../../../src/train/recipe/index.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { throwsLike } from "../../gpu.ts";

const LETTERS = "abcdefghijklmnopqrstuvwxyz .,\n";
const SPECIAL = ["<s>", "</s>", "<unk>"];
export const TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps.\n".repeat(12);

/** Writes tokenizer.json of 33 tokens, small enough for the fixtures' vocabulary of 67, and text.txt. */
export function writeTinyData(folder: string): void {
  const vocab = Object.fromEntries([...SPECIAL, ...LETTERS].map((text, id) => [text, id]));
  const added_tokens = SPECIAL.map((content, id) => ({
    ...{ id, content, special: true, normalized: false },
    ...{ single_word: false, lstrip: false, rstrip: false },
  }));
  const model = { type: "BPE", unk_token: "<unk>", vocab, merges: [] };
  const decoder = { type: "Fuse" };
  const none = { truncation: null, padding: null, normalizer: null, pre_tokenizer: null };
  const json = { version: "1.0", ...none, post_processor: null, decoder, added_tokens, model };
  writeFileSync(`${folder}/tokenizer.json`, JSON.stringify(json));
  const names = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" };
  writeFileSync(`${folder}/tokenizer_config.json`, JSON.stringify(names));
  writeFileSync(`${folder}/text.txt`, TEXT);
  writeFileSync(`${folder}/general.txt`, TEXT.split("").reverse().join(""));
}

/** What a run may differ in. */
export interface Change extends Partial<Omit<TrainConfig, "training" | "data">> {
  training?: TrainConfig["training"];
  data?: Partial<TrainConfig["data"]>;
}

/** Its configuration; the folder holds what `writeTinyData` writes. */
export function tinyConfig(folder: string, change: Change = {}): TrainConfig {
  return {
    model: fixtureFolder("llama-tiny"),
    tokenizer: folder,
    output: `${folder}/run`,
    lora: { r: 4, lora_dropout: 0.1 },
    ...change,
    data: { train: `${folder}/text.txt`, length: 16, ...change.data },
    training: { steps: 6, batch: 2, lr: 1e-2, eval_rows: 4, eval_every: 2, ...change.training },
  };
}

/** Asserts that a promise fails with an error of this class whose message holds all the parts. */
export async function rejects(
  promise: Promise<unknown>,
  className: string,
  ...parts: (string | RegExp)[]
): Promise<void> {
  let error: unknown = null;
  await promise.catch((e: unknown) => {
    error = e;
  });
  throwsLike(
    () => {
      if (error) throw error;
    },
    className,
    ...parts,
  );
}
