// Which modules an adapter means, and with which rank and scale, by PEFT's rules.
import { gpu } from "../gpu/device.ts";
import { LimitError, ValueError } from "../gpu/errors.ts";
import { Conv1D, Embedding, Linear } from "../nn/layers.ts";
import type { AnyModule } from "../nn/module.ts";
import { isQuantized } from "../tensor/quantized.ts";
import { type CompleteLoraConfig, scaleOf } from "./config.ts";
import { LoraLayer } from "./lora_layer.ts";
import { nearest } from "./nearest.ts";
import { fullMatch } from "./python_regex.ts";
import { SavedModule } from "./saved_module.ts";

/** What can carry an adapter. */
type Adaptable = Linear | Conv1D | Embedding;

/** One layer's part of an adapter. */
export interface Target {
  base: Adaptable;
  r: number;
  lora_alpha: number;
  /** s of y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ. */
  scaling: number;
}

/** What an adapter changes, by the paths of the modules. */
export interface Plan {
  targets: Map<string, Target>;
  /** Modules of which it has a copy. */
  saved: Map<string, AnyModule>;
}

const QV = ["q_proj", "v_proj"];

/** PEFT's choice where `target_modules` is not given, by family. */
const DEFAULT_TARGETS: Readonly<Record<string, readonly string[]>> = {
  gpt2: ["c_attn"],
  ...Object.fromEntries(
    ["llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"].map((f) => [
      f,
      QV,
    ]),
  ),
};

/** Modules by path, those of other adapters left out: an adapted layer counts as its base. */
export function baseModules(model: AnyModule): Map<string, AnyModule> {
  const found = new Map<string, AnyModule>();
  const inside: string[] = [];
  for (const [path, module] of model.namedModules()) {
    if (path === "" || inside.some((prefix) => path.startsWith(prefix))) continue;
    if (module instanceof LoraLayer || module instanceof SavedModule) inside.push(`${path}.`);
    found.set(path, module instanceof LoraLayer ? module.base_layer : module);
  }
  return found;
}

/** The config with `target_modules` filled in for the model's family. */
export function withTargets(model: AnyModule, config: CompleteLoraConfig): CompleteLoraConfig {
  if (config.target_modules !== null) return config;
  const family = (model as { modelType?: string }).modelType ?? "";
  const target_modules = DEFAULT_TARGETS[family];
  if (target_modules) return { ...config, target_modules };
  const expected = `given, for there is no default for ${family || "this model"}`;
  throw new ValueError({ op: "lora", arg: "target_modules", expected, got: "none" });
}

/** A test by PEFT's rules for lists of names and for regular expressions. */
function matcher(
  arg: string,
  names: readonly string[] | string | RegExp,
): (path: string) => boolean {
  if (!Array.isArray(names)) return fullMatch(arg, names as string | RegExp);
  return (path) => names.some((name) => path === name || path.endsWith(`.${name}`));
}

function targetMatcher(modules: ReadonlyMap<string, AnyModule>, config: CompleteLoraConfig) {
  const { target_modules: names } = config;
  if (typeof names !== "string" || names.toLowerCase() !== "all-linear") {
    const meant = matcher("target_modules", names!);
    return (path: string) => meant(path) && isInLayers(path, config);
  }
  const isLinear = (m: AnyModule | undefined) => m instanceof Linear || m instanceof Conv1D;
  return (path: string) => isLinear(modules.get(path)) && !/(^|\.)lm_head$/.test(path);
}

/** Whether `layers_to_transform` names the block that a path goes through. */
function isInLayers(
  path: string,
  { target_modules, layers_to_transform, layers_pattern }: CompleteLoraConfig,
): boolean {
  const indices = [layers_to_transform ?? []].flat();
  if (indices.length === 0 || (target_modules as string[]).includes(path)) return true;
  const patterns = [layers_pattern ?? []].flat();
  const found =
    patterns.length === 0
      ? path.match(/^.*?\.[^.]*\.(\d+)\./)
      : patterns.map((p) => path.match(new RegExp(`^(?:|.*?\\.)${p}\\.(\\d+)\\.`))).find(Boolean);
  return found ? indices.includes(Number(found[1])) : false;
}

/** The value of the first pattern, in the order of the table, that matches the end of a path. */
function patterned(
  arg: string,
  table: Readonly<Record<string, number>>,
  path: string,
  otherwise: number,
): number {
  for (const [key, value] of Object.entries(table)) {
    if (fullMatch(arg, `(.*\\.)?(${key})`)(path)) return value;
  }
  return otherwise;
}

/** Rank, alpha and scale of the layer at a path, patterns counted in. */
export function strengthAt(
  path: string,
  { r: rank, lora_alpha: alpha, rank_pattern, alpha_pattern, use_rslora }: CompleteLoraConfig,
): Pick<Target, "r" | "lora_alpha" | "scaling"> {
  const r = patterned("rank_pattern", rank_pattern, path, rank);
  const lora_alpha = patterned("alpha_pattern", alpha_pattern, path, alpha);
  return { r, lora_alpha, scaling: scaleOf(r, lora_alpha, use_rslora) };
}

/**
 * What the config means in a model. Nothing is changed.
 * @throws ValueError where nothing matches (the message lists the candidates), where something matches
 *   that cannot carry an adapter, or where the rank does not fit
 */
export function planOf(model: AnyModule, config: CompleteLoraConfig): Plan {
  const modules = baseModules(model);
  const saved = savedModules(modules, config);
  checkNotAdapted(model, saved.keys());
  const excluded = excluder(config);
  const meant = targetMatcher(modules, config);
  const targets = new Map<string, Target>();
  for (const [path, module] of modules) {
    if (excluded(path) || !meant(path)) continue;
    const base = adaptable(path, module, config);
    const strength = strengthAt(path, config);
    checkDecomposition(path, base, strength.r, config);
    targets.set(path, { base, ...strength });
  }
  if (targets.size === 0) throw noMatch(modules, config);
  return { targets, saved };
}

/** Throws LimitError for a rank whose A or B is more than one buffer of the device, before memory is asked for. */
export function checkRanks({ targets }: Plan): void {
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu("lora").limits;
  const bytes = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  for (const [path, { base, r }] of targets) {
    const most = Math.floor(bytes / 4 / Math.max(...sizesOf(base)));
    if (r <= most) continue;
    const facts = { arg: `r of ${path}`, expected: `at most ${most} on this device`, got: `${r}` };
    throw new LimitError({ op: "lora", ...facts });
  }
}

/** Paths that get no adapter: named in `exclude_modules`, or in or above a module that is saved whole. */
function excluder({
  exclude_modules,
  modules_to_save,
}: CompleteLoraConfig): (path: string) => boolean {
  const named =
    exclude_modules === null ? () => false : matcher("exclude_modules", exclude_modules);
  const whole = (modules_to_save ?? []).map((m) =>
    fullMatch("modules_to_save", `(|.*\\.)${m}(|\\..*)`),
  );
  return (path) => named(path) || whole.some((isPart) => isPart(path));
}

function sizesOf(base: Adaptable): [number, number] {
  if (base instanceof Embedding) return [base.embeddingDim, base.numEmbeddings];
  return [base.outFeatures, base.inFeatures];
}

function adaptable(path: string, module: AnyModule, config: CompleteLoraConfig): Adaptable {
  const isEmbedding = module instanceof Embedding;
  if (!(module instanceof Linear || module instanceof Conv1D || isEmbedding)) {
    const expected = "made of names of linear layers and embeddings";
    const got = `${path}, a ${module.constructor.name}`;
    const hint = "Name the layers in it, or leave it out with exclude_modules.";
    throw new ValueError({ op: "lora", arg: "target_modules", expected, got, hint });
  }
  if (isEmbedding && config.lora_bias) {
    const expected = `false, for ${path} is an embedding`;
    throw new ValueError({ op: "lora", arg: "lora_bias", expected, got: "true" });
  }
  return module;
}

/** PiSSA and OLoRA take r directions out of the weights, so there must be as many. */
function checkDecomposition(
  path: string,
  base: Adaptable,
  r: number,
  config: CompleteLoraConfig,
): void {
  const { init_lora_weights: init } = config;
  if (typeof init === "boolean" || init === "gaussian") return;
  if (base instanceof Embedding) {
    const expected = `true, false or gaussian, for ${path} is an embedding`;
    throw new ValueError({ op: "lora", arg: "init_lora_weights", expected, got: init });
  }
  const { dtype } = base.weight;
  if (isQuantized(dtype)) {
    const expected = `true, false or gaussian, for ${path} is held as ${dtype} and cannot give a part of its weights away`;
    throw new ValueError({ op: "lora", arg: "init_lora_weights", expected, got: init });
  }
  if (config.lora_alpha <= 0) {
    const expected = `above 0 with ${init}`;
    throw new ValueError({ op: "lora", arg: "lora_alpha", expected, got: `${config.lora_alpha}` });
  }
  const sizes = sizesOf(base);
  const most = Math.min(...sizes);
  if (r <= most) return;
  const expected = `at most ${most} with ${init}, the smaller side of ${path} [${sizes.join(", ")}]`;
  throw new ValueError({ op: "lora", arg: "r", expected, got: `${r}` });
}

/** The modules that `modules_to_save` names, by PEFT's rule: the path ends with the name. */
function savedModules(
  modules: ReadonlyMap<string, AnyModule>,
  { modules_to_save }: CompleteLoraConfig,
) {
  const saved = new Map<string, AnyModule>();
  for (const name of modules_to_save ?? []) {
    const matching = [...modules].filter(([path]) => path.endsWith(name));
    for (const [path, module] of matching) saved.set(path, module);
    if (matching.length > 0) continue;
    const hint = `The nearest name is ${nearest(name, leafNames(modules))}.`;
    const expected = "made of names of modules of the model";
    throw new ValueError({ op: "lora", arg: "modules_to_save", expected, got: name, hint });
  }
  for (const [path, module] of saved) SavedModule.check(path, module);
  return saved;
}

/** Throws ValueError where another adapter adds to a layer that is to be copied: one of them would be lost. */
function checkNotAdapted(model: AnyModule, saved: Iterable<string>): void {
  for (const path of saved) {
    const module = model.module(path);
    if (!(module instanceof LoraLayer)) continue;
    const got = `${path}, to which ${[...module.adapters.keys()].join(", ")} adds`;
    const expected = "made of names of modules that no other adapter targets";
    throw new ValueError({ op: "lora", arg: "modules_to_save", expected, got });
  }
}

function leafNames(modules: ReadonlyMap<string, AnyModule>): Set<string> {
  return new Set([...modules.keys()].map((path) => path.split(".").pop()!));
}

function noMatch(modules: ReadonlyMap<string, AnyModule>, config: CompleteLoraConfig): ValueError {
  const { target_modules: names, exclude_modules, layers_to_transform } = config;
  const layers = [...modules].filter(([, m]) => m instanceof Linear || m instanceof Conv1D);
  const candidates = [...leafNames(new Map(layers))];
  const got = names instanceof RegExp ? `${names}` : JSON.stringify(names);
  const listed = candidates.join(", ") || "the model has none";
  const expected = `a match for at least one linear layer (${listed})`;
  const word = Array.isArray(names) ? names[0] : undefined;
  const narrowed =
    exclude_modules !== null || layers_to_transform !== null || config.modules_to_save !== null;
  const hint = narrowed
    ? "What matched was excluded by exclude_modules, modules_to_save or layers_to_transform."
    : word && candidates.length > 0
      ? `Did you mean ${nearest(word, candidates)}?`
      : "";
  return new ValueError({ op: "lora", arg: "target_modules", expected, got, hint });
}
