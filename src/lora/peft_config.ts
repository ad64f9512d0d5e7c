// adapter_config.json, as PEFT 0.21 writes and reads it.
import { FormatError, LowrankError } from "../gpu/errors.ts";
import { Conv1D, TurnedConv1D } from "../nn/layers.ts";
import {
  type CompleteLoraConfig,
  completeConfig,
  DEFAULTS,
  isNeutral,
  type LoraConfig,
  UNSUPPORTED,
} from "./config.ts";
import type { Lora } from "./lora.ts";
import type { LoraLayer } from "./lora_layer.ts";
import { toPython } from "./python_regex.ts";

export const CONFIG_FILE = "adapter_config.json";
/** Before the path of a module, in the names of tensors. */
export const PREFIX = "base_model.model.";

/** Fields that say where an adapter comes from, and nothing of what it computes. */
const PROVENANCE = ["auto_mapping", "inference_mode", "peft_type", "peft_version"];

/** Ways to start that leave the base as it is, so that a saved adapter is a plain one. */
const PLAIN_STARTS = ["eva", "orthogonal"];

/** The text of adapter_config.json: PEFT's keys, sorted. */
export function configText(
  lora: Lora,
  name: string,
  config: CompleteLoraConfig,
  base: string | null,
): string {
  const adapted = [...lora.layers.values()].filter((layer) => layer.adapters.has(name));
  const fields: Record<string, unknown> = {
    ...UNSUPPORTED,
    ...config,
    auto_mapping: null,
    base_model_name_or_path: config.base_model_name_or_path ?? base,
    exclude_modules: asPython(config.exclude_modules),
    fan_in_fan_out: adapted.some((layer) => isConv1D(layer)),
    inference_mode: true,
    peft_type: "LORA",
    peft_version: "0.21.0",
    target_modules: targetNames(lora, name),
  };
  const sorted = Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
  const text = JSON.stringify(sorted, null, 2);
  return text.replace(/^( {2}"lora_dropout": \d+)(,?)$/m, "$1.0$2"); // a float in Python
}

/** Whether the layer is a Conv1D in the model that PEFT would adapt. */
function isConv1D({ base_layer: base }: LoraLayer): boolean {
  return base instanceof Conv1D || base instanceof TurnedConv1D;
}

function asPython(names: CompleteLoraConfig["target_modules"]): unknown {
  return names instanceof RegExp
    ? toPython(names)
    : Array.isArray(names)
      ? [...names].sort()
      : names;
}

/** As PEFT keeps it: all-linear as the paths it stands for, and long lists as short endings. */
function targetNames(lora: Lora, name: string): unknown {
  const { target_modules: names } = lora.config(name);
  const all = typeof names === "string" && names.toLowerCase() === "all-linear";
  const paths = [...lora.layers].filter(([, l]) => l.adapters.has(name)).map(([path]) => path);
  const list = all ? paths : asPython(names);
  if (!Array.isArray(list) || list.length < 20) return all ? paths.sort() : list;
  const isTarget = (path: string) => list.some((t) => path === t || path.endsWith(`.${t}`));
  const others = [...lora.modulePaths()].filter((path) => !isTarget(path));
  const short = shortestEndings(list, others);
  return short.length < list.length ? short.sort() : list.sort();
}

/** Endings that are enough to tell some names from others. */
function shortestEndings(names: readonly string[], others: readonly string[]): string[] {
  const endings = (path: string) => {
    const parts = path.split(".");
    return parts.map((_, i) => parts.slice(parts.length - 1 - i).join("."));
  };
  const taken = new Set(others.flatMap(endings));
  const chosen: string[] = [];
  for (const name of [...names].sort()) {
    if (chosen.some((ending) => name.endsWith(`.${ending}`))) continue;
    const ending = endings(name).find((e) => !taken.has(e) && !chosen.includes(e));
    if (ending !== undefined) chosen.push(ending);
  }
  return chosen;
}

/**
 * The config in a file's JSON.
 * @throws FormatError for another kind of adapter, and for fields that are wrong or not supported
 */
export function configFrom(file: string, json: Record<string, unknown>): CompleteLoraConfig {
  if (json.peft_type !== "LORA") {
    const facts = { arg: `peft_type of ${file}`, expected: '"LORA"' };
    throw new FormatError({ op: "loadAdapter", ...facts, got: JSON.stringify(json.peft_type) });
  }
  const known = new Set([...Object.keys(DEFAULTS), ...Object.keys(UNSUPPORTED)]);
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(json)) {
    if (PROVENANCE.includes(key) || (!known.has(key) && isNeutral(value))) continue;
    if (value === null && !isNeutral(DEFAULTS[key as keyof LoraConfig])) continue;
    given[key] = value;
  }
  if (PLAIN_STARTS.includes(`${given.init_lora_weights}`)) given.init_lora_weights = true;
  for (const key of ["rank_pattern", "alpha_pattern"]) given[key] ??= {};
  return named(file, () => completeConfig(given as LoraConfig));
}

/** What a check of a config says, with the file that the config came from. */
export function named<T>(file: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof LowrankError)) throw error;
    throw new FormatError(`loadAdapter: ${file}: ${error.message.replace(/^lora: /, "")}`);
  }
}
