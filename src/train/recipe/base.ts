// Base: the model that is trained, by its folder or its name on the hub, its tokenizer, and its data.
import { ValueError } from "../../gpu/errors.ts";
import type { CausalLM, LMSizes } from "../../nn/causal_lm.ts";
import { withEmptyWeights } from "../../nn/init.ts";
import { fromPretrained, type LoadProgress, modelFromConfig } from "../../nn/pretrained.ts";
import { readJson } from "../../tensor/files.ts";
import { heldAs } from "../base_dtype.ts";
import type { HubProgress } from "../hub/settings.ts";
import { modelFolder, openTokenizer } from "../open_model.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { ConfigError } from "./config_error.ts";
import { checkAdapter } from "./resolve.ts";
import { type RunData, readRunData } from "./run_data.ts";
import type { FullConfig } from "./schema.ts";

/** What loading reports. */
export interface BaseHooks {
  /** What is being done, such as `loading the model`. */
  onPhase?: (phase: string) => void;
  onDownload?: (progress: HubProgress) => void;
  onLoad?: (progress: LoadProgress) => void;
}

/**
 * Everything of a run that several runs may share: files are looked at once, data is read once, and the frozen
 * base is held once. `trainRun` makes one for itself where it gets none.
 */
export class Base {
  private readonly data = new Map<string, Promise<RunData>>();
  private readonly known = new Map<string, unknown>();
  private held: { dtype: string; model: CausalLM } | null = null;

  private constructor(
    /** As the configuration names it. */
    readonly name: string,
    /** Where its files lie. */
    readonly folder: string,
    readonly tokenizer: Tokenizer,
    readonly sizes: LMSizes,
    private readonly hooks: BaseHooks,
  ) {}

  /**
   * Looks at a model's files, and at whether the configuration fits them; no weight is read.
   * @throws ConfigError, FormatError, ValueError for what does not fit
   */
  static async open(config: FullConfig, hooks: BaseHooks = {}): Promise<Base> {
    const { onDownload } = hooks;
    const folder = await named("model", modelFolder(config.model, onDownload));
    const outline = await outlineOf(folder);
    try {
      const tokenizer = await named("tokenizer", openTokenizer(folder, outline, config.tokenizer));
      checkAdapter(outline, config);
      return new Base(config.model, folder, tokenizer, outline.sizes, hooks);
    } finally {
      outline.dispose();
    }
  }

  /** The data of a configuration, read once. */
  dataOf(config: FullConfig): Promise<RunData> {
    const key = JSON.stringify(config.data);
    let data = this.data.get(key);
    if (!data) {
      this.hooks.onPhase?.("reading the data");
      data = readRunData(config.data, this.tokenizer, this.sizes);
      this.data.set(key, data);
    }
    return data;
  }

  /** What was found out about the model as it is loaded, by what was asked: each is looked at once. */
  async once<T>(asked: string, find: () => Promise<T>): Promise<T> {
    if (!this.known.has(asked)) this.known.set(asked, await find());
    return this.known.get(asked) as T;
  }

  /** Checks that a configuration's adapter fits the model. */
  async check(config: FullConfig): Promise<void> {
    const outline = await outlineOf(this.folder);
    try {
      checkAdapter(outline, config);
    } finally {
      outline.dispose();
    }
  }

  /** The frozen model that runs share; they must leave it as it was. */
  async shared(dtype: FullConfig["base_dtype"]): Promise<CausalLM> {
    if (this.held?.dtype === dtype) return this.held.model;
    this.held?.model.dispose();
    this.held = null;
    const model = await this.fresh(dtype);
    this.held = { dtype, model: model.requiresGrad(false) };
    return model;
  }

  /** A model of one's own, to change and to free. */
  async fresh(dtype: FullConfig["base_dtype"]): Promise<CausalLM> {
    const { onPhase, onLoad } = this.hooks;
    onPhase?.(`loading ${this.name}`);
    return fromPretrained(this.folder, {
      ...heldAs(dtype),
      ...(onLoad ? { onProgress: onLoad } : {}),
    });
  }

  /** Frees the shared model. */
  dispose(): void {
    this.held?.model.dispose();
    this.held = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The model without its weights. */
async function outlineOf(folder: string): Promise<CausalLM> {
  const from = `${folder}/config.json`;
  const config = await readJson(from);
  return withEmptyWeights(() => modelFromConfig(config, from));
}

/** What opening throws, by the key in the configuration. */
async function named<T>(key: string, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (error) {
    if (!(error instanceof ValueError) || error.op !== "open") throw error;
    const [, hint] = error.message.split(`got ${error.got}. `);
    const facts = { op: "config", arg: key, expected: error.expected!, got: error.got! };
    throw new ConfigError(hint ? { ...facts, hint } : facts);
  }
}
