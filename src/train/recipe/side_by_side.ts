// Runs side by side: several that differ in their adapters, trained in one step over one base.

import { ValueError } from "../../gpu/errors.ts";
import { DEFAULTS } from "../../lora/config.ts";
import { planAdapter } from "../../lora/lora.ts";
import { loraPlusGroups } from "../../lora/lora_plus.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { Dropout, Embedding } from "../../nn/layers.ts";
import type { FitOptions } from "../fit_options.ts";
import { SideBySide } from "../fit_side_by_side.ts";
import type { FolderLock } from "../folder_lock.ts";
import type { Base } from "./base.ts";
import { type PlannedConfig, planRun, type RatedConfig } from "./plan.ts";
import { withRate } from "./rate.ts";
import type { RunSummary } from "./record.ts";
import { loraConfigOf, resolveConfig } from "./resolve.ts";
import { type Before, Run, type RunHooks } from "./run.ts";
import type { FullConfig } from "./schema.ts";
import { checkOutput } from "./train_run.ts";

/** Methods whose adapters only add to layers, and are moved by AdamW. */
const METHODS: readonly string[] = ["lora", "rslora", "lora+"];

/** Fields of an adapter that does more. */
const MORE = ["bias", "lora_bias", "modules_to_save"] as const;

/**
 * What runs must have in common to train side by side: those of one key may, if the model allows it. Null: only alone.
 */
export function sideBySideKey(config: FullConfig): string | null {
  const { method, base_dtype, data, training } = config;
  const lora = { ...DEFAULTS, ...loraConfigOf(config) };
  const isMore = MORE.some((field) => `${lora[field] ?? ""}` !== `${DEFAULTS[field] ?? ""}`);
  const { batch, accumulate, capture, lr, gradient_checkpointing } = training;
  if (!METHODS.includes(method) || isMore || lr === "auto" || gradient_checkpointing) return null;
  const { length, rows, bucketed } = data;
  if (bucketed) return null; // whose steps are as wide as their own rows need
  return JSON.stringify([base_dtype, length, rows, batch, accumulate, capture]);
}

/**
 * Trains runs that have a key in common side by side: each as `trainRun` would, with the same losses and weights to
 * the bit. Their base is held once; the memory in their records is that of all of them, the time of a step their
 * part of it.
 * @param configs  checked, of one `sideBySideKey`
 * @returns of each its record or what went wrong; null where the model does not allow it, and nothing was done
 * @throws as `trainRun` for what no run can do without
 */
export async function trainSideBySide(
  configs: readonly FullConfig[],
  hooks: RunHooks & { base: Base },
): Promise<(RunSummary | Error)[] | null> {
  const { base } = hooks;
  const checked = configs.map((config) => resolveConfig(config, hooks.origin));
  for (const config of checked) await checkOutput(config, hooks.origin);
  const model = await base.shared(checked[0]!.base_dtype);
  const runs: Beside[] = [];
  for (const [i, config] of checked.entries()) {
    await base.check(config);
    const data = await base.dataOf(config);
    const planned = planRun(config, data);
    if (!keepsBits(model, planned)) return null;
    runs.push({
      name: `run${i}`,
      config: planned,
      run: new Run(planned, model, data, base, hooks),
    });
  }
  const locks: FolderLock[] = [];
  try {
    for (const { run } of runs) locks.push(await run.lock());
    return await together(model, runs);
  } finally {
    for (const lock of locks) await lock.release();
  }
}

interface Beside {
  /** Of its adapter. */
  name: string;
  config: PlannedConfig;
  run: Run;
}

async function together(model: CausalLM, runs: readonly Beside[]): Promise<(RunSummary | Error)[]> {
  const befores: Before[] = [];
  for (const { run } of runs) befores.push(await run.before());
  const adapters = runs.map(({ name, config }) => {
    return [name, { config: loraConfigOf(config), seed: config.seed }] as const;
  });
  using all = await SideBySide.add(model, new Map(adapters));
  const options = new Map<string, FitOptions>();
  const notes = [
    `trained beside ${runs.length - 1} others: GPU memory is that of all, the time of a step its part`,
  ];
  for (const [i, { name, config, run }] of runs.entries()) {
    const before = befores[i]!;
    const rated = await withRate(config, before.earlier, none);
    await run.start({ count: () => all.count(name), notes }, rated, before);
    options.set(name, { ...run.fitOptions(rated), ...movedBy(all, name, rated.config) });
  }
  const results = await all.fit(options);
  const done: (RunSummary | Error)[] = [];
  for (const [i, { name, run }] of runs.entries()) {
    const result = results.get(name)!;
    if (result instanceof Error) {
      done.push(result);
      continue;
    }
    all.lora.setAdapter(name);
    const what = { lora: all.lora, adapter: name };
    done.push(await run.finish(what, result, befores[i]!).catch((error: Error) => error));
  }
  return done;
}

/** No rate is searched here. */
function none(): never {
  throw new ValueError({ op: "train", arg: "training.lr", expected: "a number", got: "auto" });
}

/** What is trained, where that is not all of the adapter alike. */
function movedBy(
  { lora }: SideBySide,
  adapter: string,
  { method, training: { lr, loraplus_lr_ratio = 16, weight_decay } }: RatedConfig,
): Pick<FitOptions, "parameters"> {
  if (method !== "lora+") return {};
  const rates = { lr, loraplus_lr_ratio, loraplus_weight_decay: weight_decay };
  return { parameters: loraPlusGroups(lora, { ...rates, adapter }) };
}

/** Bytes at a multiple of which a part of a buffer may begin, and the fewest tokens that are computed as more are. */
const [BINDING, TOKENS] = [256, 32];

/**
 * Whether the run's tokens lie where they are computed as they are alone, and the base draws no random numbers. The
 * head has the tokens of one run at a time.
 */
function keepsBits(model: CausalLM, config: PlannedConfig): boolean {
  const tokens = config.training.batch * config.data.length;
  if (tokens < TOKENS) return false;
  for (const [, module] of model.namedModules()) {
    if (module instanceof Dropout && module.p > 0) return false;
  }
  const { targets } = planAdapter(model, loraConfigOf(config)).plan;
  for (const [path, { base }] of targets) {
    if (base instanceof Embedding || !path.startsWith(model.bodyPrefix)) continue;
    const widths = [base.inFeatures, base.outFeatures];
    if (widths.some((width) => (tokens * width * 4) % BINDING !== 0)) return false;
  }
  return true;
}
