// A tiny model on disk with a tokenizer that fits it, and adapters whose updates are not zero.
import { cpSync, writeFileSync } from "node:fs";
import type { LoraConfig } from "../../../src/lora/config.ts";
import { addLora } from "../../../src/lora/lora.ts";
import { saveAdapter } from "../../../src/lora/peft.ts";
import { LlamaForCausalLM } from "../../../src/nn/llama.ts";
import { copyStorage } from "../../../src/nn/optim/arena.ts";
import { savePretrained } from "../../../src/nn/pretrained.ts";
import { tensor } from "../../../src/tensor/create.ts";
import { manualSeed } from "../../../src/tensor/philox.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { randomValues } from "../../gpu.ts";

export interface World {
  /** Folder of the model. */
  model: string;
  /** Folders of the adapters. */
  adapters: Record<string, string>;
}

export interface WorldOptions {
  /** bytes: a vocabulary of 256, no file; template: the fixture with a template of chats. Default bytes. */
  tokenizer?: "bytes" | "template";
  /** Tokens of the context. Default 64. */
  context?: number;
  /** Configs by the adapters' names. Default: one, of rank 2. */
  adapters?: Record<string, LoraConfig>;
  /** How large B's values are. Default 0.5. */
  size?: number;
}

/** Writes a world into a folder. The same options give the same world. */
export async function tinyWorld(folder: string, options: WorldOptions = {}): Promise<World> {
  const { tokenizer = "bytes", context = 64, size = 0.5 } = options;
  const { adapters = { one: { r: 2, target_modules: "all-linear" } } } = options;
  const world: World = { model: `${folder}/model`, adapters: {} };
  manualSeed(11);
  const make = () =>
    new LlamaForCausalLM({
      ...{ vocab_size: tokenizer === "bytes" ? 256 : 360, hidden_size: 32, intermediate_size: 48 },
      ...{ num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2 },
      ...{ max_position_embeddings: context, initializer_range: 0.3 },
    });
  using model = make();
  await savePretrained(model, world.model);
  if (tokenizer === "template") {
    for (const file of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
      cpSync(`${fixtureFolder("tokenizer-tiny")}/${file}`, `${world.model}/${file}`);
    }
  }
  let seed = 1;
  for (const [name, config] of Object.entries(adapters)) {
    const lora = addLora(model, config);
    for (const p of lora.parameters()) {
      using values = tensor(randomValues(p.size, seed++, size), p.shape);
      copyStorage(values.storage, p.storage, p.bytes);
    }
    world.adapters[name] = `${folder}/${name}`;
    await saveAdapter(lora, world.adapters[name], { base: world.model });
    lora.remove();
  }
  return world;
}

/** Writes objects as JSONL. */
export function writeJsonl(path: string, rows: readonly object[]): string {
  writeFileSync(path, `${rows.map((row) => JSON.stringify(row)).join("\n")}\n`);
  return path;
}
