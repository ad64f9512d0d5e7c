// Lora: the adapters of one model: to train, switch, merge and take out again.
import { ValueError } from "../gpu/errors.ts";
import type { AnyModule } from "../nn/module.ts";
import { packTogether } from "../nn/optim/arena.ts";
import { type RandomState, randomState } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type CompleteLoraConfig, completeConfig, type LoraConfig } from "./config.ts";
import { decompose, decomposes } from "./decompose.ts";
import { allFinite } from "./finite.ts";
import { LoraLayer } from "./lora_layer.ts";
import { checkMixable } from "./mixed.ts";
import { SavedModule } from "./saved_module.ts";
import { Switches } from "./switches.ts";
import { baseModules, checkRanks, type Plan, planOf, withTargets } from "./targets.ts";
import { untieHead } from "./tied_head.ts";
import { TrainedBiases } from "./trained_biases.ts";

/** Stands for the base alone among names of adapters. */
export const BASE = "__base__";

/** A config that fits a model, and what it means there. */
export interface Planned {
  config: CompleteLoraConfig;
  plan: Plan;
}

/** Checks a config against a model. Nothing is changed. */
export function planAdapter(model: AnyModule, config: LoraConfig): Planned {
  const full = withTargets(model, completeConfig(config));
  return { config: full, plan: planOf(model, full) };
}

/** Throws ValueError where a model has adapters already. */
export function checkNoAdapters(model: AnyModule): void {
  for (const [path, module] of model.namedModules()) {
    if (!(module instanceof LoraLayer || module instanceof SavedModule)) continue;
    const hint =
      "Add to them with `lora.addAdapter(name, config)`, or take them out with `lora.remove()`.";
    const facts = { arg: "the model", expected: "without adapters", got: path };
    throw new ValueError({ op: "lora", ...facts, hint });
  }
}

/**
 * Freezes a model and gives the layers that the config names a low-rank update.
 * The model is changed in place and used as before.
 * @param adapterName  by which the adapter is switched
 * @throws ValueError where the config or the model does not fit; nothing is changed then
 */
export function addLora(model: AnyModule, config: LoraConfig = {}, adapterName = "default"): Lora {
  checkNoAdapters(model);
  const planned = planAdapter(model, config);
  const { init_lora_weights: init } = planned.config;
  if (decomposes(init)) {
    const expected = "true, false or gaussian";
    const hint = "That must read the weights: `await addDecomposedLora(model, config)`.";
    throw new ValueError({ op: "addLora", arg: "init_lora_weights", expected, got: init, hint });
  }
  const lora = new Lora(model);
  try {
    lora.put(adapterName, planned);
    lora.setAdapter(adapterName);
    return lora;
  } catch (error) {
    lora.undo();
    throw error;
  }
}

/**
 * As `addLora`, for PiSSA and OLoRA, which start A and B with the main part of the weights and leave
 * the rest in the base. Exact PiSSA costs min(in, out)³ per layer on the CPU; `pissa_niter_16` far less.
 */
export async function addDecomposedLora(
  model: AnyModule,
  config: LoraConfig = {},
  adapterName = "default",
): Promise<Lora> {
  checkNoAdapters(model);
  const planned = planAdapter(model, config);
  const lora = new Lora(model);
  try {
    lora.put(adapterName, planned);
    await lora.decompose(adapterName);
    lora.setAdapter(adapterName);
    return lora;
  } catch (error) {
    lora.undo();
    throw error;
  }
}

export class Lora {
  /** The adapted layers by the paths of the layers that they replaced. */
  readonly layers = new Map<string, LoraLayer>();
  /** The layers of which adapters have copies. */
  readonly saved = new Map<string, SavedModule>();
  private readonly configs = new Map<string, CompleteLoraConfig>();
  private readonly switches = new Switches();
  /** Which parameters of the base wanted gradients before. */
  private readonly trainedBefore: ReadonlySet<Tensor>;
  private readonly trainedBiases: TrainedBiases;

  constructor(readonly model: AnyModule) {
    this.trainedBiases = new TrainedBiases(model, this.saved);
    this.trainedBefore = new Set(model.trainableParameters());
    model.requiresGrad(false);
  }

  /** Names of the adapters. */
  get adapters(): string[] {
    return [...this.configs.keys()];
  }

  /** Names of those whose updates are added. */
  get activeAdapters(): readonly string[] {
    return this.switches.active;
  }

  /** The config of an adapter. Default: the first active one. */
  config(name = this.activeAdapters[0] ?? this.adapters[0]!): CompleteLoraConfig {
    const config = this.configs.get(name);
    if (config) return config;
    const expected = `one of ${this.adapters.join(", ") || "none that there is"}`;
    throw new ValueError({ op: "lora", arg: "the adapter", expected, got: name });
  }

  /**
   * Adds one more adapter, not yet active.
   * @throws ValueError for a name that is taken, and where the config does not fit
   */
  addAdapter(name: string, config: LoraConfig = {}): void {
    this.put(name, planAdapter(this.model, config));
  }

  /** Puts a checked adapter into the model. */
  put(name: string, { config, plan }: Planned): void {
    this.checkNewName(name, config);
    this.checkSwitchable("addAdapter");
    checkRanks(plan);
    for (const [path, { base, r, scaling }] of plan.targets) {
      this.layerAt(path, base).addUpdate(name, r, scaling, config);
    }
    for (const [path, module] of plan.saved) this.savedAt(path, module).add(name);
    this.sort();
    this.configs.set(name, config);
    packTogether("addAdapter", this.ownParameters(name), "adapters");
    this.switches.streams.set(name, randomState());
    for (const p of this.parameters(name)) p.storage.category = "adapters";
    this.trainedBiases.remember(config);
  }

  /** Puts layers into the model's order, so that an adapter's parameters stand as they would alone. */
  private sort(): void {
    const { layers, saved } = this;
    for (const path of this.modulePaths()) {
      for (const map of [layers, saved] as Map<string, AnyModule>[]) {
        const module = map.get(path);
        if (module && map.delete(path)) map.set(path, module);
      }
    }
  }

  /** Moves the main part of the base's weights into an adapter, where its config says so. */
  async decompose(name: string): Promise<void> {
    const { init_lora_weights: init } = this.config(name);
    if (!decomposes(init)) return;
    for (const layer of this.layers.values()) {
      const update = layer.adapters.get(name);
      if (update) await decompose(layer, update, init);
    }
  }

  private checkNewName(name: string, config: CompleteLoraConfig): void {
    const refuse = (arg: string, expected: string, got: string) => {
      throw new ValueError({ op: "addAdapter", arg, expected, got });
    };
    if (!/^[^.\s/\\]+$/.test(name) || name === BASE) {
      refuse("name", "a name without dots, slashes and blanks that is not __base__", `"${name}"`);
    }
    if (this.configs.has(name)) refuse("name", "a new one", `${name}, which is taken`);
    const all = [config, ...this.configs.values()];
    const taking = all.find(({ init_lora_weights: init }) => decomposes(init));
    if (taking && all.length > 1) {
      const expected = "true, false or gaussian where there are several adapters";
      refuse("init_lora_weights", expected, `${taking.init_lora_weights}, which changes the base`);
    }
    const other = this.adapters.find((a) => this.configs.get(a)!.bias !== "none");
    if (other === undefined || config.bias === "none") return;
    refuse("bias", `none, for ${other} trains the biases of the base already`, config.bias);
  }

  private layerAt(path: string, base: LoraLayer["base_layer"]): LoraLayer {
    const known = this.layers.get(path);
    if (known) return known;
    const layer = new LoraLayer(base, this.switches);
    this.model.setModule(path, layer);
    this.layers.set(path, layer);
    return layer;
  }

  private savedAt(path: string, module: AnyModule): SavedModule {
    const known = this.saved.get(path);
    if (known) return known;
    const wrapper = new SavedModule(module, this.switches);
    this.model.setModule(path, wrapper);
    this.saved.set(path, wrapper);
    return wrapper;
  }

  /** The biases of the base that an adapter trains, by their paths there. */
  biases(name: string): Map<string, Tensor> {
    return this.trainedBiases.of(this.config(name));
  }

  /**
   * Lets one adapter, or several whose updates are summed, take part, and makes them trainable.
   * @throws ValueError for unknown names, and for two adapters that have copies of one module
   */
  setAdapter(names: string | readonly string[]): void {
    const list = [...new Set([names].flat())] as string[];
    for (const name of list) this.config(name);
    this.checkSwitchable("setAdapter");
    for (const [path, { copies }] of this.saved) {
      const owners = list.filter((name) => copies.has(name));
      if (owners.length <= 1) continue;
      const expected = `at most one with a copy of ${path}`;
      throw new ValueError({ op: "setAdapter", arg: "names", expected, got: owners.join(", ") });
    }
    this.switches.active = list;
    for (const name of this.adapters) {
      for (const p of this.parameters(name)) p.requiresGrad = list.includes(name);
    }
  }

  /**
   * Where the random numbers go on that an adapter draws beside others. The object is the place itself: what is
   * assigned to it counts, in captured steps too.
   */
  stream(name: string): RandomState {
    this.config(name);
    return this.switches.streams.get(name)!;
  }

  /** What the optimiser trains: everything of one adapter, or of the active ones. */
  parameters(name?: string): Tensor[] {
    if (name === undefined) return this.activeAdapters.flatMap((n) => this.parameters(n));
    this.config(name);
    return [...this.ownParameters(name), ...this.biases(name).values()];
  }

  /** What belongs to an adapter alone. */
  private ownParameters(name: string): Tensor[] {
    const weights = [...this.layers.values()].flatMap((layer) => layer.adapters.get(name) ?? []);
    const copies = [...this.saved.values()].flatMap((s) => s.copies.get(name) ?? []);
    return [...weights, ...copies].flatMap((module) => module.parameters());
  }

  /** Number of trained elements, of all elements, and their ratio. */
  count(): { trainable: number; total: number; share: number } {
    const size = (list: Tensor[]) => list.reduce((sum, p) => sum + p.size, 0);
    const trainable = size(this.model.trainableParameters());
    const total = size(this.model.parameters());
    return { trainable, total, share: trainable / total };
  }

  /** Frees an adapter. If it was active, the others stay so. */
  deleteAdapter(name: string): void {
    const config = this.config(name);
    this.checkSwitchable("deleteAdapter");
    this.trainedBiases.restore(config);
    for (const [path, layer] of this.layers) {
      layer.deleteUpdate(name);
      if (layer.adapters.size > 0) continue;
      this.model.setModule(path, layer.base_layer);
      this.layers.delete(path);
    }
    for (const [path, wrapper] of this.saved) {
      wrapper.delete(name);
      if (wrapper.copies.size > 0) continue;
      this.model.setModule(path, wrapper.original_module);
      this.saved.delete(path);
    }
    this.configs.delete(name);
    this.switches.streams.delete(name);
    this.switches.active = this.switches.active.filter((n) => n !== name);
  }

  /** Paths of the base's modules. */
  modulePaths(): Iterable<string> {
    return baseModules(this.model).keys();
  }

  get merged(): boolean {
    return [...this.layers.values()].some((layer) => layer.merged);
  }

  /** Whether the active adapters take part. */
  get enabled(): boolean {
    return this.switches.enabled;
  }

  /** Lets the adapters take part again. */
  enable(): void {
    this.switches.checkFree("enable");
    this.switches.enabled = true;
  }

  /** The model computes what its base computes, until `enable()`. Trained biases of the base stay. */
  disable(): void {
    this.checkSwitchable("disable");
    this.switches.enabled = false;
  }

  /**
   * Runs a function with the adapters off, and switches back as it was, whatever happens. Of an async
   * function, when it has ended; until then nothing else may switch.
   * @throws ValueError for merged adapters, and where async functions would overlap
   */
  withoutAdapters<T>(fn: () => T): T {
    this.checkSwitchable("withoutAdapters");
    return this.switches.during("withoutAdapters", { enabled: false }, fn);
  }

  /**
   * Runs a function in which each sequence of a batch uses its own adapter, or several, or none. The
   * base computes once for all. In training, random numbers are drawn from each adapter's own stream,
   * which goes on from where it was when the adapter was made. The function may be async, as generation
   * is; until it has ended nothing else may switch.
   * @param names  one entry for each sequence: a name, a list of names, or `"__base__"`
   * @throws ValueError for unknown names, merged adapters, kinds that cannot be mixed, and where async
   *   functions would overlap
   */
  withAdapterNames<T>(names: readonly (string | readonly string[])[], fn: () => T): T {
    const rows = names.map((row) => [row].flat().filter((name) => name !== BASE) as string[]);
    this.checkSwitchable("withAdapterNames");
    for (const name of new Set(rows.flat())) checkMixable(name, this.config(name));
    return this.switches.during("withAdapterNames", { rows }, fn);
  }

  /** Adds the active updates to the weights: no work is left at inference. `unmerge()` brings every bit back. */
  merge(): void {
    this.checkMergeable();
    for (const layer of this.layers.values()) layer.merge();
  }

  private checkMergeable(): void {
    this.switches.checkFree("merge");
    for (const [path, layer] of this.layers) layer.checkMergeable(path);
  }

  /**
   * As `merge`, but reads the adapters and the merged weights and refuses what is not finite.
   * @throws ValueError naming the layer; nothing is changed then
   */
  async mergeSafely(): Promise<void> {
    const check = async (path: string, what: string, t: Tensor | null) => {
      if (!t || allFinite(await t.rawBytes(), t.dtype)) return;
      const facts = { arg: `${what} of ${path}`, expected: "finite", got: "infinity or NaN" };
      throw new ValueError({ op: "mergeSafely", ...facts, hint: "Nothing was changed." });
    };
    for (const [path, { active }] of this.layers) {
      for (const update of active) {
        for (const [name, t] of update.namedParameters()) await check(path, name, t);
      }
    }
    this.merge();
    try {
      for (const [path, { base_layer }] of this.layers) {
        await check(path, "the merged weight", base_layer.weight);
        if ("bias" in base_layer) await check(path, "the merged bias", base_layer.bias);
      }
    } catch (error) {
      this.unmerge();
      throw error;
    }
  }

  /** Runs a function while the model has its plain, perhaps merged, layers in the place of adapted ones. */
  async asPlainModel<T>(fn: () => Promise<T>): Promise<T> {
    for (const [path, layer] of this.layers) this.model.setModule(path, layer.base_layer);
    for (const [path, wrapper] of this.saved) this.model.setModule(path, wrapper.current);
    try {
      return await fn();
    } finally {
      for (const [path, layer] of this.layers) this.model.setModule(path, layer);
      for (const [path, wrapper] of this.saved) this.model.setModule(path, wrapper);
    }
  }

  /** Restores the weights of the base bit for bit. */
  unmerge(): void {
    for (const layer of this.layers.values()) layer.unmerge();
  }

  /** Takes the adapters out and frees them; the model is as it was, but frozen. */
  remove(): void {
    this.unmerge();
    for (const name of this.adapters) this.deleteAdapter(name);
  }

  /** As `remove`, and what wanted gradients before does so again. */
  undo(): void {
    this.remove();
    for (const p of this.trainedBefore) p.requiresGrad = true;
  }

  /** Makes the active updates part of the model for good, and takes all adapters out. */
  mergeAndUnload(): void {
    this.checkMergeable();
    untieHead(this);
    this.merge();
    for (const name of this.activeAdapters) this.trainedBiases.keep(this.config(name));
    for (const layer of this.layers.values()) layer.keepMerged();
    for (const wrapper of this.saved.values()) {
      const { current } = wrapper;
      if (current === wrapper.original_module) continue;
      wrapper.original_module.dispose();
      wrapper.original_module = current.requiresGrad(false);
      for (const [name, copy] of wrapper.copies) if (copy === current) wrapper.copies.delete(name);
    }
    for (const name of this.adapters) this.deleteAdapter(name);
  }

  /** Throws ValueError while adapters are merged, or counted on by an async function. */
  private checkSwitchable(op: string): void {
    this.switches.checkFree(op);
    if (!this.merged) return;
    const facts = { arg: "the adapters", expected: "not merged", got: "merged ones" };
    throw new ValueError({ op, ...facts, hint: "Call `unmerge()` first." });
  }
}
