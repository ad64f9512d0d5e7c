// The learning rate of a run: as asked, or found by a short range test before training.
import { ValueError } from "../../gpu/errors.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { type FoundRate, findRate, type RatePoint } from "../find_rate.ts";
import type { TrainingRows } from "../rows.ts";
import { Interrupted } from "./interrupted.ts";
import { type Prepared, usualRate } from "./method.ts";
import type { PlannedConfig, RatedConfig } from "./plan.ts";
import type { RunSummary } from "./record.ts";

/** What a range test found, as run.json keeps it: numbers that are not finite are null. */
export interface RateFound extends Omit<FoundRate, "points"> {
  points: { lr: number; loss: number | null; change: number | null }[];
}

export interface RateHooks {
  /** What is being done, such as `loading the model`. */
  onPhase?: (phase: string) => void;
  /** Ends training after the step that runs; what there is is saved. */
  signal?: AbortSignal;
  /** Called after each step of the range test. */
  onRateStep?: (point: RatePoint, step: number, steps: number) => void;
}

/** A configuration with its rate, and how that was found. */
export interface Rated {
  config: RatedConfig;
  found_rate: RateFound | null;
}

/**
 * The configuration with its rate: the one that it has, that of the run which goes on, or one that is searched.
 * @param earlier  what the run's folder says, where the run goes on
 */
export async function withRate(
  config: PlannedConfig,
  earlier: RunSummary | null,
  search: () => Promise<RateFound>,
): Promise<Rated> {
  const { lr: asked } = config.training;
  const at = (lr: number, found_rate: RateFound | null): Rated => ({
    config: { ...config, training: { ...config.training, lr } },
    found_rate,
  });
  if (earlier && (asked === "auto" || asked === earlier.config.training.lr)) {
    return at(earlier.config.training.lr, earlier.found_rate ?? null);
  }
  if (asked !== "auto") return at(asked, null);
  const found = await search();
  return at(found.lr, found);
}

/**
 * Finds the rate of a run whose `training.lr` is `auto`, on the rows that training will see. Model and random state are
 * as before afterwards, so that the run is to the bit the one that is given this rate.
 * @throws ValueError where the loss falls at no rate, Interrupted
 */
export async function searchRate(
  model: CausalLM,
  { movedAt }: Prepared,
  train: TrainingRows,
  { method, seed, training }: PlannedConfig,
  { signal, onPhase, onRateStep }: RateHooks,
): Promise<RateFound> {
  onPhase?.("finding a learning rate");
  const { batch, accumulate, weight_decay: weightDecay, clip } = training;
  try {
    const { points, ...found } = await findRate(model, {
      ...(await movedAt(usualRate(method))),
      ...{ train, batch, accumulate, weightDecay, clip, seed },
      ...(signal ? { signal } : {}),
      ...(onRateStep ? { onStep: onRateStep } : {}),
    });
    if (signal?.aborted) throw new Interrupted();
    const known = points.map(({ lr, loss, change }) => ({
      ...{ lr, loss: finite(loss), change: finite(change) },
    }));
    return { ...found, points: known };
  } catch (error) {
    if (signal?.aborted) throw new Interrupted();
    if (!(error instanceof ValueError) || error.arg !== "the loss") throw error;
    throw new ValueError({
      op: "train",
      arg: "training.lr",
      expected: "a rate, for the range test saw the loss fall at none",
      got: "auto",
      hint: "Larger batches have less noise.",
    });
  }
}

function finite(x: number): number | null {
  return Number.isFinite(x) ? x : null;
}
