// What a configuration means for a model's data: steps, rates, how often to look.
import { configError } from "./config_error.ts";
import { usualRate } from "./method.ts";
import { loraConfigOf } from "./resolve.ts";
import type { RunData } from "./run_data.ts";
import type { FullConfig } from "./schema.ts";

type Training = FullConfig["training"];

/** A configuration of which everything is a number, but for a rate that is to be found. */
export interface PlannedConfig extends FullConfig {
  data: FullConfig["data"] & { length: number };
  training: Omit<Training, "epochs"> &
    Required<Pick<Training, "steps" | "lr" | "eval_every" | "checkpoint_every">>;
}

/** The same with its rate. */
export interface RatedConfig extends PlannedConfig {
  training: PlannedConfig["training"] & { lr: number };
}

const USUAL_EPOCHS = 3;
const LOOKS = 10;
/** Looks take at most this share of the time that steps take, where a row of theirs costs a third of a step's. */
const LOOKING = 0.5;

/**
 * Fills in what depends on the data.
 * @throws ConfigError where something is asked of a held-out set that is not there
 */
export function planRun(
  config: FullConfig,
  { own, length, valid, general }: RunData,
): PlannedConfig {
  const { epochs = USUAL_EPOCHS, ...training } = config.training;
  const { batch, accumulate, patience } = training;
  const rows = own.count / (1 - (config.data.replay?.share ?? 0));
  const stepsOf = rows / (batch * accumulate); // in an epoch; bucketed ones end with a step that is not full
  const perEpoch = config.data.bucketed ? Math.ceil(stepsOf) : stepsOf;
  const { steps = Math.max(1, Math.ceil(epochs * perEpoch)) } = training;
  const [v, g] = [valid, general].map((set) => Math.min(training.eval_rows, set?.count ?? 0));
  const looks = Math.floor((LOOKING * 3 * steps * batch * accumulate) / (v! + g!));
  const { eval_every = Math.ceil(steps / Math.max(1, Math.min(looks, LOOKS))) } = training;
  const { checkpoint_every = training.eval_every ?? Math.ceil(steps / LOOKS) } = training;
  const { lr = usualRate(config.method) } = training;
  const warmup = training.warmup < 1 ? Math.round(training.warmup * steps) : training.warmup;
  if (warmup > steps) {
    const expected = `at most the run's steps, ${steps}, or a share of them below 1`;
    throw configError({ key: "training.warmup", expected, got: warmup });
  }
  if (patience !== undefined && !valid) {
    const expected = "absent where nothing is held out (data.valid)";
    throw configError({ key: "training.patience", expected, got: patience });
  }
  const planned = { ...training, steps, lr, eval_every, checkpoint_every, warmup };
  const { base_model_name_or_path: _, ...lora } = loraConfigOf(config);
  return {
    ...config,
    lora: config.method === "full" ? {} : lora,
    data: { ...config.data, length },
    training: planned,
  };
}
