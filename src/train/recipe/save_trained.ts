// What a run leaves to use: its adapter, or the model with its tokenizer.
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import type { Lora } from "../../lora/lora.ts";
import { saveAdapter } from "../../lora/peft.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { savePretrained } from "../../nn/pretrained.ts";
import { sharesBase } from "./method.ts";
import type { FullConfig } from "./schema.ts";

const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/**
 * Saves an adapter, or where there is none the model. PiSSA and OLoRA become plain adapters of twice the rank.
 * @param from  folder of the base, which has the tokenizer's files
 * @returns the folder, under the run's
 */
export async function saveTrained(
  model: CausalLM,
  lora: Lora | null,
  { output, method, model: base }: FullConfig,
  from: string,
  adapter = "default",
): Promise<string> {
  if (lora) {
    const folder = `${output}/adapter`;
    const convert = !sharesBase(method);
    await saveAdapter(lora, folder, { adapters: [adapter], flat: true, base, convert });
    return folder;
  }
  const folder = `${output}/model`;
  await savePretrained(model, folder);
  for (const file of TOKENIZER_FILES) {
    if (existsSync(`${from}/${file}`)) await copyFile(`${from}/${file}`, `${folder}/${file}`);
  }
  return folder;
}
