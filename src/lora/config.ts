// LoraConfig: PEFT's fields, by its names and with its defaults, checked before anything is built.
import { ValueError } from "../gpu/errors.ts";
import { nearest } from "./nearest.ts";

/** How the weights of an adapter start. */
export type LoraInit = boolean | "gaussian" | "olora" | "pissa" | `pissa_niter_${number}`;

export interface LoraConfig {
  /** Rank of the update: A is [r, in], B is [out, r]. Default 8. */
  r?: number;
  /** The update counts lora_alpha/r times. Default 8. */
  lora_alpha?: number;
  /** Probability with which elements of the adapter's input are dropped in training. Default 0. */
  lora_dropout?: number;
  /**
   * Which layers get an adapter: names that end a module's path (`["q_proj", "v_proj"]`), a regular
   * expression for whole paths (in Python's syntax, or a RegExp), or `"all-linear"`: all linear
   * layers but the output head. Default: what PEFT takes for the model's family.
   */
  target_modules?: readonly string[] | string | RegExp | null;
  /** Layers that get none although `target_modules` means them; written as that is. */
  exclude_modules?: readonly string[] | string | RegExp | null;
  /** Indices of the blocks whose layers get an adapter; for a list of `target_modules`. Default: all. */
  layers_to_transform?: readonly number[] | number | null;
  /** Name of the list of blocks in a path, such as `"layers"`. Default: the first one with a number. */
  layers_pattern?: readonly string[] | string | null;
  /** Ranks of single layers, by regular expressions for the end of their paths. The first match counts. */
  rank_pattern?: Readonly<Record<string, number>>;
  /** The same for lora_alpha. */
  alpha_pattern?: Readonly<Record<string, number>>;
  /** Which biases of the base are trained and saved too. Default `"none"`. */
  bias?: "none" | "all" | "lora_only";
  /** Names of layers of which the adapter has a full copy, trained and saved with it. */
  modules_to_save?: readonly string[] | null;
  /** Scale by lora_alpha/√r instead (Kalajdzievski 2023, arXiv 2312.03732). Default false. */
  use_rslora?: boolean;
  /** Learn the length of each row of the weights apart (Liu et al. 2024, arXiv 2402.09353). Default false. */
  use_dora?: boolean;
  /**
   * `true`: A uniform in ±1/√in, B zero. `false`: B random too. `"gaussian"`: A normal with deviation
   * 1/r, B zero. `"pissa"`, `"pissa_niter_16"` (Meng et al. 2024, arXiv 2404.02948) and `"olora"`
   * (Büyükakyüz 2024, arXiv 2406.01775) take the main part of the weights out of the base. Default true.
   */
  init_lora_weights?: LoraInit;
  /** Corrected by what each layer is: GPT-2's Conv1D stores its weights [in, out]. */
  fan_in_fan_out?: boolean;
  /** B has a bias of its own. Default false. */
  lora_bias?: boolean;
  /** For whoever loads the adapter: which model it is for. */
  base_model_name_or_path?: string | null;
  /** The base's revision on the hub. */
  revision?: string | null;
  /** Default `"CAUSAL_LM"`. */
  task_type?: string | null;
}

export type CompleteLoraConfig = Required<LoraConfig>;

export const DEFAULTS: CompleteLoraConfig = {
  r: 8,
  lora_alpha: 8,
  lora_dropout: 0,
  target_modules: null,
  exclude_modules: null,
  layers_to_transform: null,
  layers_pattern: null,
  rank_pattern: {},
  alpha_pattern: {},
  bias: "none",
  modules_to_save: null,
  use_rslora: false,
  use_dora: false,
  init_lora_weights: true,
  fan_in_fan_out: false,
  lora_bias: false,
  base_model_name_or_path: null,
  revision: null,
  task_type: "CAUSAL_LM",
};

/** PEFT's other fields and the values under which they change nothing. Others are refused. */
export const UNSUPPORTED: Readonly<Record<string, unknown>> = {
  alora_invocation_tokens: null,
  arrow_config: null,
  corda_config: null,
  ensure_weight_tying: false,
  eva_config: null,
  kasa_config: null,
  layer_replication: null,
  loftq_config: {},
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: "megatron.core",
  monteclora_config: null,
  qalora_group_size: 16,
  target_parameters: null,
  trainable_token_indices: null,
  use_bdlora: null,
  use_qalora: false,
  velora_config: null,
};

/** Fields that only mean something beside one that is refused itself. */
const HARMLESS = ["megatron_core", "qalora_group_size"];

/** Whether a value says nothing: null, false, or empty. */
export function isNeutral(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

type Facts = { arg: string; expected: string; got: unknown; hint?: string };

function refuse({ got, hint, ...facts }: Facts): never {
  const shown = typeof got === "object" ? JSON.stringify(got) : `${got}`;
  throw new ValueError({ op: "lora", ...facts, got: shown, ...(hint ? { hint } : {}) });
}

function need(arg: string, good: boolean, expected: string, got: unknown): void {
  if (!good) refuse({ arg, expected, got });
}

/** Throws ValueError for a field that nobody knows, or one of PEFT's that is not supported. */
function checkFields(config: object): void {
  const known = Object.keys(DEFAULTS);
  for (const [key, value] of Object.entries(config)) {
    if (known.includes(key)) continue;
    if (!(key in UNSUPPORTED)) {
      const hint = `Did you mean ${nearest(key, [...known, ...Object.keys(UNSUPPORTED)])}?`;
      refuse({ arg: "config", expected: "made of LoraConfig's fields", got: key, hint });
    }
    if (isNeutral(value) || HARMLESS.includes(key)) continue;
    const expected = `${JSON.stringify(UNSUPPORTED[key])}, the only value that is supported`;
    refuse({ arg: key, expected, got: value });
  }
}

/**
 * Fills in the defaults.
 * @throws ValueError for unknown, unsupported and contradictory fields and numbers out of range
 */
export function completeConfig(config: LoraConfig): CompleteLoraConfig {
  checkFields(config);
  const given = Object.entries(config).filter(([key, v]) => v !== undefined && key in DEFAULTS);
  const full: CompleteLoraConfig = { ...DEFAULTS, ...Object.fromEntries(given) };
  const { lora_alpha, lora_dropout, bias, task_type } = full;
  checkRank("r", full.r);
  need("lora_alpha", Number.isFinite(lora_alpha), "a finite number", lora_alpha);
  const isShare = typeof lora_dropout === "number" && lora_dropout >= 0 && lora_dropout < 1;
  need("lora_dropout", isShare, "in [0, 1)", lora_dropout);
  need("bias", ["none", "all", "lora_only"].includes(bias), "none, all or lora_only", bias);
  const known = task_type === null || typeof task_type === "string";
  need("task_type", known, "a string or null", task_type);
  for (const key of ["use_rslora", "use_dora", "fan_in_fan_out", "lora_bias"] as const) {
    need(key, typeof full[key] === "boolean", "true or false", full[key]);
  }
  checkSelection(full);
  checkPatterns(full);
  checkInit(full);
  return full;
}

function checkRank(arg: string, r: unknown): void {
  need(arg, Number.isSafeInteger(r) && (r as number) > 0, "a positive integer", r);
}

function isNames(value: unknown): boolean {
  return Array.isArray(value) && value.every((v) => typeof v === "string" && v.length > 0);
}

function checkSelection(config: CompleteLoraConfig): void {
  for (const key of ["target_modules", "exclude_modules"] as const) {
    const value = config[key];
    const single = value === null || value instanceof RegExp || typeof value === "string";
    const expected = "a list of names, a regular expression or all-linear";
    need(key, single || isNames(value), expected, value);
  }
  const { target_modules, modules_to_save, layers_to_transform, layers_pattern } = config;
  need("modules_to_save", modules_to_save === null || isNames(modules_to_save), "a list of names", modules_to_save); // biome-ignore format: one line
  const indices = [layers_to_transform ?? []].flat();
  const counts = indices.every((i) => Number.isSafeInteger(i) && i >= 0);
  need("layers_to_transform", counts, "indices of layers", layers_to_transform);
  const patterns = [layers_pattern ?? []].flat();
  need("layers_pattern", isNames(patterns), "a name or a list of names", layers_pattern);
  const isList = Array.isArray(target_modules) || target_modules === null;
  for (const arg of ["layers_to_transform", "layers_pattern"] as const) {
    if (isList || config[arg] === null) continue;
    const expected = "absent where target_modules is no list of names";
    const hint = "Name the layers in the regular expression instead.";
    refuse({ arg, expected, got: config[arg], hint });
  }
  const alone = patterns.length > 0 && layers_to_transform === null;
  need("layers_pattern", !alone, "given together with layers_to_transform", layers_pattern);
}

function checkPatterns(config: CompleteLoraConfig): void {
  for (const arg of ["rank_pattern", "alpha_pattern"] as const) {
    const isTable = typeof config[arg] === "object" && config[arg] !== null;
    need(arg, isTable && !Array.isArray(config[arg]), "an object of numbers", config[arg]);
    for (const [key, value] of Object.entries(config[arg])) {
      if (arg === "rank_pattern") checkRank(`${arg}["${key}"]`, value);
      else need(`${arg}["${key}"]`, Number.isFinite(value), "a finite number", value);
    }
  }
}

function checkInit({ init_lora_weights: init, lora_bias, use_dora }: CompleteLoraConfig): void {
  const names = "true, false, gaussian, pissa, pissa_niter_<number> or olora";
  const known = typeof init === "boolean" || /^(gaussian|olora|pissa(_niter_\d+)?)$/.test(init);
  need("init_lora_weights", known, names, init);
  if (!lora_bias) return;
  need("init_lora_weights", typeof init === "boolean", "true or false with lora_bias", init);
  need("use_dora", !use_dora, "false with lora_bias", use_dora);
}

/** s of y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ. */
export function scaleOf(r: number, lora_alpha: number, use_rslora: boolean): number {
  return lora_alpha / (use_rslora ? Math.sqrt(r) : r);
}
