// What PEFT's file holds beside the adapter: the base of adapted embeddings and heads, and with bias "all" the
// biases of saved modules once more, by the names of the wrapper and of the module under it.
import { noGrad } from "../autograd/graph.ts";
import { cast } from "../autograd/ops/index.ts";
import { FormatError } from "../gpu/errors.ts";
import type { AnyModule } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Lora, Planned } from "./lora.ts";
import type { LoraLayer } from "./lora_layer.ts";
import { PREFIX } from "./peft_config.ts";

/** Names of embeddings whose base PEFT saves beside their adapter. */
const SAVED_EMBEDDINGS = ["embed_tokens", "lm_head"];

const isSavedEmbedding = (path: string) => SAVED_EMBEDDINGS.includes(path.split(".").pop()!);
const isBias = (key: string) => key.includes("bias");

/** Weights of the base that a file may hold, by the names there; they must be the model's own. */
export function baseWeights(model: AnyModule, { config, plan }: Planned): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const path of [...plan.targets.keys()].filter(isSavedEmbedding)) {
    found.set(`${PREFIX}${path}.base_layer.weight`, (model.module(path) as LoraLayer).weight);
  }
  if (config.bias !== "all") return found;
  for (const [path, module] of plan.saved) {
    const own = "original_module" in module ? (module.original_module as AnyModule) : module;
    for (const [key, t] of own.namedParameters()) {
      if (isBias(key)) found.set(`${PREFIX}${path}.original_module.${key}`, t);
    }
  }
  return found;
}

/** Where a file may hold an adapter's biases again: the name there, and the one that it repeats. */
export function repeatedNames(bases: ReadonlyMap<string, Tensor>): Map<string, string> {
  const originals = [...bases.keys()].filter((name) => name.includes(".original_module."));
  return new Map(
    originals.map((name) => [
      name.replace(".original_module.", ".modules_to_save."),
      name.replace(".original_module.", "."),
    ]),
  );
}

/** What goes into the file as in PEFT: bases where their names are listed, and biases again. */
export function extrasOf(lora: Lora, name: string, embeddings: boolean): Record<string, Tensor> {
  const { target_modules: names, bias } = lora.config(name);
  const extras: Record<string, Tensor> = {};
  const listed = Array.isArray(names) && SAVED_EMBEDDINGS.some((n) => names.includes(n));
  for (const [path, layer] of lora.layers) {
    if (!embeddings || !listed || !isSavedEmbedding(path)) continue;
    extras[`${PREFIX}${path}.base_layer.weight`] = layer.weight;
  }
  for (const [path, { original_module: original, copies }] of bias === "all" ? lora.saved : []) {
    const copy = copies.get(name)?.stateDict();
    for (const [key, t] of original.namedParameters()) {
      if (!copy || !isBias(key)) continue;
      extras[`${PREFIX}${path}.original_module.${key}`] = t;
      extras[`${PREFIX}${path}.modules_to_save.${key}`] = copy.get(key)!;
    }
  }
  return extras;
}

/** Throws FormatError where a file's extras are not the model's own, or not what they repeat; takes them out. */
export async function checkExtras(
  file: string,
  bases: ReadonlyMap<string, Tensor>,
  state: Map<string, Tensor>,
  compareBases: boolean,
): Promise<void> {
  try {
    for (const [name, twin] of repeatedNames(bases)) {
      await checkSame(file, name, state.get(name), state.get(twin)!, twin);
    }
    for (const [name, own] of compareBases ? bases : []) {
      const hint = "Was it made for another base?";
      await checkSame(file, name, state.get(name), own, "the model's own weights", hint);
    }
  } catch (error) {
    for (const t of state.values()) t.dispose();
    throw error;
  }
  for (const name of [...bases.keys(), ...repeatedNames(bases).keys()]) {
    state.get(name)?.dispose();
    state.delete(name);
  }
}

async function checkSame(
  file: string,
  name: string,
  t: Tensor | undefined,
  own: Tensor,
  expected: string,
  hint = "",
): Promise<void> {
  if (!t || t === own) return;
  using as = noGrad(() => cast(t, own.dtype));
  const [a, b] = [await as.rawBytes(), await own.rawBytes()];
  if (a.length === b.length && a.every((v, i) => v === b[i])) return;
  const facts = { arg: `${name} in ${file}`, expected, got: "others" };
  throw new FormatError({ op: "loadAdapter", ...facts, hint });
}
