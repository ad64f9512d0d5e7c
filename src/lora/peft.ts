// The adapter alone on disk, in PEFT's layout: adapter_config.json and adapter_model.safetensors.
import { FormatError } from "../gpu/errors.ts";
import { Conv1D } from "../nn/layers.ts";
import type { AnyModule } from "../nn/module.ts";
import { readJson, writeFileSafely } from "../tensor/files.ts";
import { loadSafetensors, saveSafetensors } from "../tensor/safetensors_file.ts";
import { format, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { LoraConfig } from "./config.ts";
import { addLora, type Lora } from "./lora.ts";

const PREFIX = "base_model.model.";
export const CONFIG_FILE = "adapter_config.json";
export const WEIGHTS_FILE = "adapter_model.safetensors";

/** A and B by the names that PEFT gives them. */
export function peftStateDict(lora: Lora): Record<string, Tensor> {
  const state: Record<string, Tensor> = {};
  for (const [path, layer] of lora.layers) {
    state[`${PREFIX}${path}.lora_A.weight`] = layer.lora_A;
    state[`${PREFIX}${path}.lora_B.weight`] = layer.lora_B;
  }
  return state;
}

/**
 * Writes the adapter into a folder, which PEFT can load. Each file appears whole or not at all.
 * @param base  name or path of the base model, for whoever loads it
 */
export async function saveAdapter(lora: Lora, folder: string, base?: string): Promise<void> {
  const { r, lora_alpha, lora_dropout, target_modules, use_rslora } = lora.config;
  const layers = [...lora.layers];
  const paths = layers.map(([path]) => path);
  const targets =
    target_modules instanceof RegExp
      ? target_modules.source
      : target_modules === "all-linear"
        ? [...new Set(paths.map((path) => path.split(".").pop()!))].sort()
        : target_modules;
  const config = {
    base_model_name_or_path: base ?? null,
    bias: "none",
    fan_in_fan_out: layers.some(([, layer]) => layer.base_layer instanceof Conv1D),
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha,
    lora_dropout,
    peft_type: "LORA",
    r,
    target_modules: targets,
    task_type: "CAUSAL_LM",
    use_rslora,
  };
  await saveSafetensors(`${folder}/${WEIGHTS_FILE}`, peftStateDict(lora), { format: "pt" });
  await writeFileSafely(`${folder}/${CONFIG_FILE}`, `${JSON.stringify(config, null, 2)}\n`);
}

/** Fields of PEFT's config that may stand in the file if they hold these values (or null). */
const NEUTRAL: Record<string, unknown[]> = {
  bias: ["none"],
  use_dora: [false],
  lora_bias: [false],
  rank_pattern: [{}],
  alpha_pattern: [{}],
  modules_to_save: [[]],
  layers_to_transform: [[]],
  exclude_modules: [[]],
  layer_replication: [[]],
  trainable_token_indices: [[]],
  target_parameters: [[]],
  use_qalora: [false],
  use_bdlora: [false],
};

function configFrom(file: string, json: Record<string, unknown>): LoraConfig {
  const refuse = (field: string, expected: string): never => {
    const got = JSON.stringify(json[field]);
    throw new FormatError({ op: "loadAdapter", arg: `${field} of ${file}`, expected, got });
  };
  if (json.peft_type !== "LORA") refuse("peft_type", `"LORA"`);
  for (const [field, allowed] of Object.entries(NEUTRAL)) {
    const value = json[field];
    if (value === null || value === undefined || value === false) continue;
    if (allowed.some((a) => JSON.stringify(a) === JSON.stringify(value))) continue;
    refuse(field, `${allowed.map((a) => JSON.stringify(a)).join(" or ")}, the one supported`);
  }
  const { r, lora_alpha, lora_dropout, target_modules, use_rslora } = json;
  if (typeof r !== "number") refuse("r", "a number");
  if (typeof lora_alpha !== "number") refuse("lora_alpha", "a number");
  const listed =
    Array.isArray(target_modules) && target_modules.every((t) => typeof t === "string");
  if (!listed && typeof target_modules !== "string") {
    refuse("target_modules", "a list of names or a regular expression");
  }
  return {
    r: r as number,
    lora_alpha: lora_alpha as number,
    lora_dropout: typeof lora_dropout === "number" ? lora_dropout : 0,
    target_modules: target_modules as string[] | string,
    use_rslora: use_rslora === true,
  };
}

/**
 * Puts the adapter of a folder into a model. The model is unchanged if anything does not fit.
 * @throws FormatError listing missing and surplus tensors and wrong shapes
 */
export async function loadAdapter(model: AnyModule, folder: string): Promise<Lora> {
  const file = `${folder}/${CONFIG_FILE}`;
  const config = configFrom(file, await readJson(file));
  const state = await loadSafetensors(`${folder}/${WEIGHTS_FILE}`);
  const trained = new Set(model.trainableParameters());
  try {
    const lora = addLora(model, config);
    try {
      fill(lora, state, folder);
    } catch (error) {
      lora.remove();
      throw error;
    }
    return lora;
  } catch (error) {
    for (const t of state.values()) t.dispose();
    for (const p of trained) p.requiresGrad = true;
    throw error;
  }
}

function fill(lora: Lora, state: ReadonlyMap<string, Tensor>, folder: string): void {
  const own = peftStateDict(lora);
  const problems: string[] = [];
  for (const [name, p] of Object.entries(own)) {
    const t = state.get(name);
    if (!t) problems.push(`missing ${name}`);
    else if (!sameShape(t.shape, p.shape)) {
      problems.push(`${name} is ${format(t.shape)}, expected ${format(p.shape)}`);
    } else if (t.dtype !== "f32") problems.push(`${name} is ${t.dtype}, expected f32`);
  }
  for (const name of state.keys()) if (!(name in own)) problems.push(`unknown ${name}`);
  if (problems.length > 0) {
    throw new FormatError(
      `loadAdapter: the adapter in ${folder} does not fit the model: ` +
        `${problems.slice(0, 20).join("; ")}. Nothing was changed.`,
    );
  }
  for (const [path, layer] of lora.layers) {
    for (const key of ["lora_A", "lora_B"] as const) {
      layer[key].dispose();
      layer[key] = state.get(`${PREFIX}${path}.${key}.weight`)!.persist();
      layer[key].requiresGrad = true;
    }
  }
}
