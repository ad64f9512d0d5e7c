// resolveConfig: a configuration checked and completed: unknown keys, ranges, contradictions.
import type { z } from "zod";
import { ValueError } from "../../gpu/errors.ts";
import { completeConfig, type LoraConfig } from "../../lora/config.ts";
import { planAdapter } from "../../lora/lora.ts";
import { nearest } from "../../lora/nearest.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { isQuantized } from "../../tensor/quantized.ts";
import { configError, type Origin, type Problem } from "./config_error.ts";
import { type FullConfig, keysAt, type Method, schema } from "./schema.ts";

/** What each method says about the adapter. */
const METHOD_FIELDS: Readonly<Partial<Record<Method, LoraConfig>>> = {
  dora: { use_dora: true },
  rslora: { use_rslora: true },
  pissa: { init_lora_weights: "pissa_niter_16" },
  olora: { init_lora_weights: "olora" },
};

/** Fields by which PEFT names methods, and the method to name instead. */
const NAMED_BY_METHOD: Readonly<Record<string, Method>> = {
  use_dora: "dora",
  use_rslora: "rslora",
};

/**
 * Checks a configuration and fills in what has a default whatever model and data are.
 * @param raw  as read from a file, or a `TrainConfig`
 * @param origin  for messages: the file, and which flags set which keys
 * @throws ConfigError for the first thing that is wrong
 */
export function resolveConfig(raw: unknown, origin: Origin = {}): FullConfig {
  const config = parsed(schema, raw, origin);
  const contradiction = contradictionOf(config);
  if (contradiction) throw configError(contradiction, origin);
  if (config.method !== "full") checkLora(config, origin);
  return config;
}

/** What a schema makes of a value; throws ConfigError for the first thing that is wrong. */
export function parsed<T extends z.ZodType>(type: T, raw: unknown, origin: Origin): z.output<T> {
  const read = type.safeParse(raw);
  if (read.success) return read.data;
  // A misspelled key explains why another is missing.
  const { issues } = read.error;
  const first = issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0]!;
  throw configError(problemOf(first, raw, type), origin);
}

/** The adapter's configuration: the method's fields, the given ones, and r = 16, alpha = 2r, all linear layers. */
export function loraConfigOf({ method, lora, model }: FullConfig): LoraConfig {
  const { r = 16 } = lora as LoraConfig;
  const usual = { r, lora_alpha: 2 * Number(r), target_modules: "all-linear" };
  return { ...usual, ...METHOD_FIELDS[method], base_model_name_or_path: model, ...lora };
}

function problemOf(issue: z.core.$ZodIssue, raw: unknown, type: z.ZodType): Problem {
  const { path } = issue;
  if (issue.code === "unrecognized_keys") {
    const known = keysAt(path, type);
    const [key] = issue.keys;
    const full = [...path, key].join(".");
    const expected = `one of ${known.join(", ")}`;
    return { key: full, expected, got: key, hint: `Did you mean ${nearest(key!, known)}?` };
  }
  let got = raw;
  for (const key of path) got = (got as Record<PropertyKey, unknown> | undefined)?.[key];
  const key = path.filter((part) => typeof part === "string").join(".");
  return { key: key || "the configuration", expected: issue.message, got };
}

function contradictionOf(config: FullConfig): Problem | null {
  const { method, base_dtype, training, lora, data } = config;
  const { steps, epochs, warmup, loraplus_lr_ratio: ratio, patience, min_delta } = training;
  if (steps !== undefined && epochs !== undefined) {
    const expected = "absent where training.steps is given";
    return { key: "training.epochs", expected, got: epochs };
  }
  if (steps !== undefined && warmup > steps) {
    const expected = `at most training.steps, ${steps}, or a share of them below 1`;
    return { key: "training.warmup", expected, got: warmup };
  }
  if (ratio !== undefined && method !== "lora+") {
    const expected = "absent unless method is lora+";
    return { key: "training.loraplus_lr_ratio", expected, got: ratio };
  }
  if (min_delta > 0 && patience === undefined) {
    const expected = "absent, or beside training.patience";
    return { key: "training.min_delta", expected, got: min_delta };
  }
  if (data.replay && data.replay.self === (data.replay.data !== undefined)) {
    const expected = "a section with either data or self: true";
    return { key: "data.replay", expected, got: data.replay.self ? "both" : "neither" };
  }
  if (data.augment?.mixing !== undefined && data.rows !== "packed") {
    const expected = "absent unless data.rows is packed";
    return { key: "data.augment.mixing", expected, got: data.augment.mixing };
  }
  if (data.bucketed && (data.rows !== "padded" || data.replay)) {
    const expected = data.replay
      ? "absent beside data.replay"
      : "absent unless data.rows is padded";
    return { key: "data.bucketed", expected, got: true };
  }
  if (data.rows === "windows" && data.long !== "auto" && data.long !== "split") {
    const expected = "auto where data.rows is windows, which cut a text anywhere";
    return { key: "data.long", expected, got: data.long };
  }
  if (method === "full" && !["auto", "f32"].includes(base_dtype)) {
    const expected = "auto or f32 with method full, which trains the base itself";
    return { key: "base_dtype", expected, got: base_dtype };
  }
  if (isQuantized(base_dtype) && (method === "pissa" || method === "olora")) {
    const expected = `auto, f32, f16 or bf16 with method ${method}, which changes the base's weights`;
    return { key: "base_dtype", expected, got: base_dtype };
  }
  for (const [field, other] of Object.entries(NAMED_BY_METHOD)) {
    if (lora[field] === undefined || lora[field] === (method === other)) continue;
    const expected = `${method === other}, for method is ${method}`;
    return { key: `lora.${field}`, expected, got: lora[field], hint: `There is method ${other}.` };
  }
  return initContradiction(config);
}

/** PiSSA and OLoRA are methods; how the others start may be chosen among what leaves the base alone. */
function initContradiction({
  method,
  lora: { init_lora_weights: init },
}: FullConfig): Problem | null {
  if (init === undefined) return null;
  const decomposed = `${init}`.match(/^(pissa|olora)/)?.[0] ?? null;
  const wanted = method === "pissa" || method === "olora" ? method : null;
  if (decomposed === wanted) return null;
  const expected = wanted
    ? `a kind of ${wanted}, for that is the method`
    : "true, false or gaussian";
  const hint = decomposed ? `There is method ${decomposed}.` : "";
  return { key: "lora.init_lora_weights", expected, got: init, ...(hint ? { hint } : {}) };
}

function checkLora(config: FullConfig, origin: Origin): void {
  asConfigError(config, origin, () => completeConfig(loraConfigOf(config)));
}

/**
 * Checks the adapter of a configuration against a model.
 * @throws ConfigError
 */
export function checkAdapter(model: CausalLM, config: FullConfig, origin: Origin = {}): void {
  if (config.method === "full") return;
  asConfigError(config, origin, () => planAdapter(model, loraConfigOf(config)));
}

/** What the adapter's own checks throw, by the key in the configuration. */
function asConfigError(config: FullConfig, origin: Origin, check: () => void): void {
  try {
    check();
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    const { arg = "", expected = "", got = "", message } = error;
    const isUnknown = arg === "config";
    const key = isUnknown ? `lora.${got}` : `lora.${arg}`;
    const [, hint] = message.split(`got ${got}. `);
    const shown = isUnknown ? got : (config.lora[arg] ?? got);
    throw configError({ key, expected, got: shown, ...(hint ? { hint } : {}) }, origin);
  }
}
