// Adapters on disk, as PEFT 0.21 writes and reads them: adapter_config.json, adapter_model.safetensors.
import { noGrad } from "../autograd/graph.ts";
import { cast } from "../autograd/ops/index.ts";
import { FormatError } from "../gpu/errors.ts";
import { Embedding } from "../nn/layers.ts";
import type { AnyModule } from "../nn/module.ts";
import { copyStorage } from "../nn/optim/arena.ts";
import { fileExists, readJson, writeFileSafely } from "../tensor/files.ts";
import { loadSafetensors, readEntries, saveSafetensors } from "../tensor/safetensors_file.ts";
import { scope } from "../tensor/scope.ts";
import { format, type Shape, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { convertedConfig, convertedPair } from "./convert.ts";
import { checkNoAdapters, Lora, type Planned, planAdapter } from "./lora.ts";
import { CONFIG_FILE, configFrom, configText, named, PREFIX } from "./peft_config.ts";
import { baseWeights, checkExtras, extrasOf, repeatedNames } from "./peft_extras.ts";

export const WEIGHTS_FILE = "adapter_model.safetensors";

/** Where a layer's tensors stand in the file. */
function namesOf(path: string, isEmbedding: boolean) {
  const at = `${PREFIX}${path}.`;
  const kind = isEmbedding ? "lora_embedding_" : "lora_";
  const end = isEmbedding ? "" : ".weight";
  return {
    lora_A: `${at}${kind}A${end}`,
    lora_B: `${at}${kind}B${end}`,
    lora_bias: `${at}lora_B.bias`,
    lora_magnitude_vector: `${at}lora_magnitude_vector`,
  };
}

/** An adapter's tensors by the names that PEFT gives them. Default: those of the first active one. */
export function peftStateDict(lora: Lora, name = lora.activeAdapters[0]!): Record<string, Tensor> {
  const state: Record<string, Tensor> = {};
  for (const [path, layer] of lora.layers) {
    const weights = layer.adapters.get(name);
    if (!weights) continue;
    for (const [key, at] of Object.entries(namesOf(path, weights.sizes.isEmbedding))) {
      const t = weights[key as keyof ReturnType<typeof namesOf>];
      if (t) state[at] = t;
    }
  }
  for (const [path, { copies }] of lora.saved) {
    for (const [key, t] of copies.get(name)?.namedParameters() ?? []) {
      state[`${PREFIX}${path}.${key}`] = t;
    }
  }
  for (const [path, t] of lora.biases(name)) state[PREFIX + path] = t;
  return state;
}

export interface SaveAdapterOptions {
  /** Names of the adapters to write. Default: all. */
  adapters?: readonly string[];
  /** One adapter goes into the folder itself, whatever its name. Default: only the one named `default`. */
  flat?: boolean;
  /** Name or path of the base model, for whoever loads it. */
  base?: string;
  /**
   * Write an adapter that started with a part of the base (PiSSA, OLoRA) as a plain one of twice the
   * rank, for the base as it was before. Default false.
   */
  convert?: boolean;
  /**
   * Whether the base of adapted embeddings named embed_tokens and lm_head goes into the file as well.
   * Default: as in PEFT, where `target_modules` lists them.
   */
  saveEmbeddingLayers?: boolean | "auto";
}

/**
 * Writes adapters into a folder, which PEFT can load: the one named `default` into the folder itself,
 * others into folders of their names within. Each file appears whole or not at all.
 */
export async function saveAdapter(
  lora: Lora,
  folder: string,
  options: SaveAdapterOptions = {},
): Promise<void> {
  const {
    adapters = lora.adapters,
    flat = false,
    base = null,
    convert = false,
    saveEmbeddingLayers = "auto",
  } = options;
  for (const name of adapters) {
    const own = flat || name === "default" ? folder : `${folder}/${name}`;
    const config = convert ? convertedConfig(lora.config(name)) : lora.config(name);
    using _ = scope();
    const state = {
      ...peftStateDict(lora, name),
      ...(convert ? convertedState(lora, name) : {}),
      ...extrasOf(lora, name, saveEmbeddingLayers !== false),
    };
    await saveSafetensors(`${own}/${WEIGHTS_FILE}`, state, { format: "pt" });
    await writeFileSafely(`${own}/${CONFIG_FILE}`, configText(lora, name, config, base));
  }
}

function convertedState(lora: Lora, name: string): Record<string, Tensor> {
  const state: Record<string, Tensor> = {};
  for (const [path, layer] of lora.layers) {
    const update = layer.adapters.get(name);
    if (!update) continue;
    const pair = convertedPair(update);
    const names = namesOf(path, false);
    state[names.lora_A] = pair.lora_A;
    state[names.lora_B] = pair.lora_B;
  }
  return state;
}

/** What a planned adapter's file must hold, by name. */
function expectedShapes(model: AnyModule, { config, plan }: Planned): Map<string, Shape> {
  const shapes = new Map<string, Shape>();
  for (const [path, { base, r }] of plan.targets) {
    const isEmbedding = base instanceof Embedding;
    const [inner, out] = isEmbedding
      ? [base.numEmbeddings, base.embeddingDim]
      : [base.inFeatures, base.outFeatures];
    const names = namesOf(path, isEmbedding);
    shapes.set(names.lora_A, [r, inner]);
    shapes.set(names.lora_B, [out, r]);
    if (config.lora_bias) shapes.set(names.lora_bias, [out]);
    if (config.use_dora) shapes.set(names.lora_magnitude_vector, [out]);
  }
  for (const [path, module] of plan.saved) {
    const layer = "original_module" in module ? (module.original_module as AnyModule) : module;
    for (const [key, t] of layer.namedParameters()) shapes.set(`${PREFIX}${path}.${key}`, t.shape);
  }
  if (config.bias === "none") return shapes;
  for (const [path, module] of model.namedModules()) {
    const { bias } = module as { bias?: Tensor | null };
    const adapted = plan.targets.has(path);
    if (!bias || (!adapted && config.bias !== "all") || plan.saved.has(path)) continue;
    shapes.set(`${PREFIX}${path}.${adapted ? "base_layer." : ""}bias`, bias.shape);
  }
  return shapes;
}

/**
 * Puts the adapter of a folder into a model, or beside the adapters that a model has.
 * @param target  a model, whose adapter is active then, or its Lora, where the new one is not yet
 * @param folder  holds adapter_config.json and adapter_model.safetensors
 * @param adapterName  by which the adapter is switched
 * @throws FormatError, ValueError listing what does not fit; the model is unchanged then
 */
export async function loadAdapter(
  target: AnyModule | Lora,
  folder: string,
  adapterName = "default",
): Promise<Lora> {
  if (target instanceof Lora) {
    await fill(target, adapterName, await readAdapter(target.model, folder));
    return target;
  }
  checkNoAdapters(target);
  const read = await readAdapter(target, folder);
  const lora = new Lora(target);
  try {
    await fill(lora, adapterName, read);
    lora.setAdapter(adapterName);
    return lora;
  } catch (error) {
    lora.undo();
    throw error;
  }
}

export interface Read {
  planned: Planned;
  state: Map<string, Tensor>;
}

/** Reads a folder and checks it against a model, of which nothing is changed. */
export async function readAdapter(
  model: AnyModule,
  folder: string,
  options: { compareBases?: boolean } = {},
): Promise<Read> {
  const config = configFrom(`${folder}/${CONFIG_FILE}`, await readJson(`${folder}/${CONFIG_FILE}`));
  const file = `${folder}/${WEIGHTS_FILE}`;
  await checkNoPickle(folder, file);
  const entries = await readEntries(file);
  const planned = named(`${folder}/${CONFIG_FILE}`, () => planAdapter(model, config));
  const expected = expectedShapes(model, planned);
  const bases = baseWeights(model, planned);
  const repeated = repeatedNames(bases);
  const problems: string[] = [];
  for (const [name, shape] of expected) {
    const entry = entries.get(name);
    if (!entry) problems.push(`missing ${name}`);
    else problems.push(...misfit(name, entry, shape));
  }
  for (const [name, entry] of entries) {
    const extra = bases.get(name)?.shape ?? expected.get(repeated.get(name) ?? "");
    if (extra) problems.push(...misfit(name, entry, extra));
    else if (!expected.has(name)) problems.push(`unknown ${name}`);
  }
  if (problems.length > 0) throw refusal(folder, config.base_model_name_or_path, problems);
  const state = await loadSafetensors(file);
  await checkExtras(file, bases, state, options.compareBases !== false);
  return { planned, state };
}

async function checkNoPickle(folder: string, file: string): Promise<void> {
  if ((await fileExists(file)) || !(await fileExists(`${folder}/adapter_model.bin`))) return;
  const got = "adapter_model.bin, a pickle, whose loading runs code";
  const hint = "Load it in PEFT and save it anew.";
  throw new FormatError({
    op: "loadAdapter",
    arg: folder,
    expected: `a folder with ${WEIGHTS_FILE}`,
    got,
    hint,
  });
}

function misfit(
  name: string,
  { dtype, shape: got }: { dtype: string; shape: Shape },
  shape: Shape,
): string[] {
  if (!sameShape(got, shape)) return [`${name} is ${format(got)}, expected ${format(shape)}`];
  return ["F32", "F16", "BF16"].includes(dtype)
    ? []
    : [`${name} is ${dtype}, expected F32, F16 or BF16`];
}

/** Problems that a message lists. */
const SHOWN = 6;

function refusal(folder: string, base: string | null, problems: readonly string[]): FormatError {
  const shown = problems.slice(0, SHOWN).join("; ");
  const more = problems.length > SHOWN ? `; and ${problems.length - SHOWN} more` : "";
  const made = base ? `, which was made for ${base},` : "";
  return new FormatError(
    `loadAdapter: the adapter in ${folder}${made} does not fit the model: ${shown}${more}. Nothing was changed.`,
  );
}

/** Puts a read adapter in, with its values. */
async function fill(lora: Lora, name: string, { planned, state }: Read): Promise<void> {
  try {
    lora.put(name, planned);
    await lora.decompose(name);
    fillValues(lora, name, state);
  } finally {
    for (const t of state.values()) t.dispose();
  }
}

/** Copies read values into an adapter. */
export function fillValues(lora: Lora, name: string, state: ReadonlyMap<string, Tensor>): void {
  using _ = scope();
  const own = peftStateDict(lora, name);
  for (const [at, t] of state) {
    const values = noGrad(() => cast(t, "f32"));
    copyStorage(values.storage, own[at]!.storage, own[at]!.bytes);
  }
}
