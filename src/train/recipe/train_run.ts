// trainRun: one training run from a configuration.
import { existsSync } from "node:fs";
import { FolderLock } from "../folder_lock.ts";
import { Base } from "./base.ts";
import { configError, type Origin } from "./config_error.ts";
import { sharesBase } from "./method.ts";
import { planRun } from "./plan.ts";
import type { RunSummary } from "./record.ts";
import { resolveConfig } from "./resolve.ts";
import { Run, type RunHooks } from "./run.ts";
import type { FullConfig, TrainConfig } from "./schema.ts";

/**
 * Trains as a configuration says, and writes the run's folder: run.json, metrics.jsonl, checkpoint/ and adapter/, or
 * model/ where the model itself is trained. Everything is checked before any weight is read or file written.
 * `await init()` comes first.
 * @param config  a `TrainConfig`, or what was read from a file
 * @returns what run.json holds
 * @throws ConfigError for the configuration; FormatError for data, models and checkpoints that do not fit;
 *   Interrupted where `signal` ends it before there is anything to keep
 */
export async function trainRun(
  config: TrainConfig | object,
  hooks: RunHooks = {},
): Promise<RunSummary> {
  const full = resolveConfig(config, hooks.origin);
  await checkOutput(full, hooks.origin);
  const base = hooks.base ?? (await Base.open(full, hooks));
  try {
    if (hooks.base) await base.check(full);
    const data = await base.dataOf(full);
    const planned = planRun(full, data);
    const isShared = hooks.base !== undefined && sharesBase(full.method);
    const { base_dtype: dtype } = full;
    const model = await (isShared ? base.shared(dtype) : base.fresh(dtype));
    try {
      return await new Run(planned, model, data, base, hooks).run();
    } finally {
      if (!isShared) model.dispose();
    }
  } finally {
    if (!hooks.base) base.dispose();
  }
}

/** Throws ConfigError where a folder holds another run, or none to go on with; ValueError where a process works there. */
export async function checkOutput({ output, resume }: FullConfig, origin?: Origin): Promise<void> {
  const isThere = existsSync(`${output}/run.json`);
  if (isThere && resume === false) {
    const hint = "Go on with it by resume (--resume), or choose another folder.";
    throw configError(
      { key: "output", expected: "a folder without a run", got: output, hint },
      origin,
    );
  }
  await FolderLock.check("config", "output", output);
  if (isThere || resume !== true) return;
  const expected = "a folder with the run to go on with";
  throw configError({ key: "output", expected, got: output }, origin);
}
