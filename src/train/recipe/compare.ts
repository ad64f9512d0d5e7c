// Methods over the same data and budget: a run each, and what they came to side by side.
import { writeFileSafely } from "../../tensor/files.ts";
import { Base } from "./base.ts";
import { type ConfigError, configError, type Origin } from "./config_error.ts";
import { Interrupted } from "./interrupted.ts";
import { usualRate } from "./method.ts";
import { type RawConfig, withSettings } from "./read_config.ts";
import type { RunSummary } from "./record.ts";
import { resolveConfig } from "./resolve.ts";
import type { RunHooks } from "./run.ts";
import { type FullConfig, METHODS, type Method } from "./schema.ts";
import { sharingTexts } from "./self_replay.ts";
import { trainRun } from "./train_run.ts";

/** A method's run, in short; run.json of its folder has the rest. */
export interface Arm {
  method: Method;
  folder: string;
  lr: number;
  stopped: RunSummary["stopped"];
  steps: number;
  parameters: RunSummary["parameters"];
  valid: RunSummary["valid"];
  general: RunSummary["general"];
  memory: RunSummary["memory"];
  step_ms: number | null;
  /** Of what was saved. */
  bytes: number | null;
  /** What one should know. */
  notes: string[];
}

export interface Comparison {
  format: 1;
  folder: string;
  version: string;
  adapter: RunSummary["adapter"];
  arms: Arm[];
}

export interface CompareHooks extends Omit<RunHooks, "base"> {
  /** Called before each arm. */
  onArm?: (method: Method, i: number, count: number) => void;
}

/**
 * The configuration of one method out of one for several: its own rate, and without what only others have.
 * `training.lr` may be a rate for each method, `{ lora: 1e-3, full: 1e-4 }`; one rate is that of adapters, of which
 * full fine-tuning gets a tenth where there are several methods. With `auto` each finds its own.
 * @throws ConfigError for rates of methods that there are not
 */
export function armOf(
  raw: object,
  method: string,
  others: readonly string[] = [],
  origin: Origin = {},
): RawConfig {
  const { training = {} } = raw as { training?: RawConfig };
  const { lr, loraplus_lr_ratio, ...rest } = { ...(training as RawConfig) };
  const rate = rateOf(lr, method as Method, others.length > 1, origin);
  const ratio = method === "lora+" || others.length === 0 ? loraplus_lr_ratio : undefined;
  const given = Object.entries({ lr: rate, loraplus_lr_ratio: ratio });
  const own = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  const isSection = typeof training === "object" && training !== null && !Array.isArray(training);
  return withSettings({ ...raw, training: isSection ? { ...rest, ...own } : training }, { method });
}

function rateOf(lr: unknown, method: Method, isOneOfMany: boolean, origin: Origin): unknown {
  if (typeof lr === "object" && lr !== null && !Array.isArray(lr)) {
    for (const [name, value] of Object.entries(lr)) {
      if ((METHODS as readonly string[]).includes(name)) continue;
      throw wrongRate(name, value, origin);
    }
    return (lr as RawConfig)[method];
  }
  if (typeof lr !== "number" || !isOneOfMany || method !== "full") return lr;
  return Number(((lr * usualRate("full")) / usualRate("lora")).toPrecision(12)); // 1e-4, not 0.00009999999999999999
}

function wrongRate(name: string, value: unknown, origin: Origin): ConfigError {
  const expected = `of one of ${METHODS.join(", ")}`;
  return configError({ key: "training.lr", expected, got: { [name]: value } }, origin);
}

/**
 * Trains several methods one after the other, each in a folder of its name under `output`, and writes
 * comparison.json. Data is read once; each arm loads the model anew, so that its memory is its own.
 * @param raw  a configuration as for one method; `method` in it is passed over
 * @param methods  two or more
 * @throws as `trainRun`; all arms are checked before the first one trains
 */
export async function compareMethods(
  raw: object,
  methods: readonly string[],
  hooks: CompareHooks = {},
): Promise<Comparison> {
  const { origin = {}, onArm, signal } = hooks;
  const arms = methods.map((method) => armFor(raw, method, methods, origin));
  const twice = methods.find((method, i) => methods.indexOf(method) !== i);
  if (twice) throw configError({ key: "method", expected: "each named once", got: twice }, origin);
  using base = await Base.open(arms[0]!, hooks);
  for (const arm of arms) await base.check(arm);
  const { output: folder } = resolveConfig(armOf(raw, methods[0]!, methods, origin), origin);
  const done: RunSummary[] = [];
  for (const [i, arm] of arms.entries()) {
    if (signal?.aborted) break;
    onArm?.(arm.method, i, arms.length);
    try {
      done.push(await trainRun(arm, { ...hooks, base }));
    } catch (error) {
      if (error instanceof Interrupted && done.length > 0) break;
      throw error;
    } finally {
      base.dispose();
    }
    await writeFileSafely(
      `${folder}/comparison.json`,
      `${JSON.stringify(comparisonOf(folder, done), null, 2)}\n`,
    );
  }
  return comparisonOf(folder, done);
}

function armFor(
  raw: object,
  method: string,
  methods: readonly string[],
  origin: Origin,
): FullConfig {
  const config = resolveConfig(armOf(raw, method, methods, origin), origin);
  const { output, resume } = config;
  // An arm that an interrupt kept from beginning begins when the others go on.
  const own = { output: `${output}/${method}`, resume: resume === true ? "if-present" : resume } as const; // biome-ignore format: one line
  return sharingTexts({ ...config, ...own }, output);
}

function comparisonOf(folder: string, runs: readonly RunSummary[]): Comparison {
  const { version, adapter } = runs[0]!;
  return { format: 1, folder, version, adapter, arms: runs.map(armSummary) };
}

function armSummary(run: RunSummary): Arm {
  const { folder, stopped, steps, parameters, valid, general, memory, step_ms, notes } = run;
  const { method, training } = run.config;
  const figures = { stopped, steps, parameters, valid, general, memory, step_ms };
  return { method, folder, lr: training.lr, ...figures, bytes: run.adapter_bytes, notes };
}
