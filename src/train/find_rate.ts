// findRate: a learning rate from one short run in which the rate rises until training falls apart.
import { ValueError } from "../gpu/errors.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { AdamW } from "../nn/optim/index.ts";
import { checkNumber } from "../nn/optim/optimizer.ts";
import { randomState, setRandomState } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { FitOptions } from "./fit_options.ts";
import { groupsOf } from "./parameter_groups.ts";
import { checkCount } from "./rows.ts";
import { Smoothed } from "./smoothed.ts";
import { TrainStep } from "./train_step.ts";

export interface FindRateOptions
  extends Pick<
    FitOptions,
    | "train"
    | "parameters"
    | "optimizer"
    | "batch"
    | "accumulate"
    | "weightDecay"
    | "clip"
    | "seed"
    | "signal"
  > {
  /** First and last rate. Default 1e-6 and 1. */
  low?: number;
  high?: number;
  /** Steps from the one to the other. Default 40. */
  steps?: number;
  onStep?: (point: RatePoint, step: number, steps: number) => void;
}

/** One step of the test. */
export interface RatePoint {
  lr: number;
  loss: number;
  /** By how much that is more than the loss of the untouched model on the same rows, without its noise. */
  change: number;
}

export interface FoundRate {
  lr: number;
  /** The steps, up to where the loss had clearly risen. */
  points: RatePoint[];
  /** The rate at which the loss was farthest below the untouched model's. */
  lowest: number;
  /** The rate at which it had risen again; null where it had not by the last one. */
  diverged: number | null;
}

/** How much of the past the smoothed loss keeps. */
const SMOOTHING = 0.8;
/** The test ends where this share of what the loss had fallen, or this many nats, is lost again. */
const [RISEN_SHARE, RISEN_LEAST] = [0.5, 0.2];
/** A fall by less than this share of the loss is none. */
const LEAST_FALL = 1e-3;
/** The rate that is found is the one by which this share of the fall had come. */
const SHARE = 1 / 2;

/**
 * Learning-rate range test: AdamW steps whose rate rises geometrically, on the rows that training would see,
 * until the loss has risen clearly above its lowest. Looked at is the smoothed difference to the loss of
 * the untouched model on the same rows, for rows differ more than rates do. The rate that is found is
 * the one by which half of the fall had come. It lies well below the lowest loss, whose place on a flat floor
 * just before divergence is left to noise. Parameters, gradients and random state are as before afterwards,
 * to the bit, whatever happens.
 * @throws ValueError where an option is out of range, or the loss falls nowhere
 * Source: Smith 2015, "Cyclical learning rates for training neural networks", arXiv 1506.01186, section 3.3.
 */
export async function findRate(model: CausalLM, options: FindRateOptions): Promise<FoundRate> {
  const { train, batch, accumulate = 1, weightDecay = 0, clip = 1, seed = 0 } = options;
  const { low = 1e-6, high = 1, steps = 40, signal, onStep } = options;
  for (const [arg, n] of Object.entries({ batch, accumulate, steps }))
    checkCount("findRate", arg, n);
  checkNumber("findRate", "low", low, low > 0, "above 0");
  checkNumber("findRate", "high", high, high > low, `above low, ${low}`);
  const groups = groupsOf(options.parameters ?? model.trainableParameters(), weightDecay);
  const [random, wasTraining] = [randomState(), model.training];
  const parameters = groups.flatMap(({ params }) => [...params]);
  const before: Uint8Array<ArrayBuffer>[] = [];
  for (const p of parameters) before.push(await p.rawBytes());
  const optimizer = options.optimizer ?? new AdamW(groups, { lr: low, weightDecay });
  const step = new TrainStep(model, optimizer, { batch, accumulate, clip, length: train.length });
  const relative = optimizer.groups.map(({ lr }) => lr / optimizer.groups[0]!.lr);
  try {
    model.train();
    const rowsOf = (i: number) => train.rows(batch * accumulate, seed, i);
    const untouched: number[] = [];
    for (let i = 0; i < steps && !signal?.aborted; i++) {
      untouched.push((await step.compute(rowsOf(i))).loss);
      step.skip();
    }
    const test = new Test();
    for (let i = 0; i < steps && !test.isOver && !signal?.aborted; i++) {
      const lr = low * (high / low) ** (i / Math.max(1, steps - 1));
      for (const [k, factor] of relative.entries()) optimizer.groups[k]!.lr = lr * factor;
      const { loss, gradNorm } = await step.compute(rowsOf(i));
      const isGood = Number.isFinite(loss) && Number.isFinite(gradNorm);
      const point = test.add(lr, loss, isGood ? loss - untouched[i]! : Infinity);
      onStep?.(point, i + 1, steps);
      if (isGood) step.update();
      else step.skip();
    }
    return test.found();
  } finally {
    step.dispose();
    optimizer.zeroGrad();
    optimizer.dispose();
    restore(parameters, before);
    setRandomState(random);
    model.train(wasTraining);
  }
}

function restore(parameters: readonly Tensor[], bytes: readonly Uint8Array<ArrayBuffer>[]): void {
  for (const [i, p] of parameters.entries()) {
    p.storage.touch();
    p.upload(bytes[i]!);
  }
}

/** What the losses of rising rates tell. */
class Test {
  readonly points: RatePoint[] = [];
  private readonly smoothed = new Smoothed(SMOOTHING);
  private lowest = 0;
  private diverged: number | null = null;

  get isOver(): boolean {
    return this.diverged !== null;
  }

  /** Takes the loss before the step of a rate, and what that is more than the untouched model's. */
  add(lr: number, loss: number, more: number): RatePoint {
    const change = Number.isFinite(more) ? this.smoothed.add(more) : Infinity;
    const point = { lr, loss, change };
    this.points.push(point);
    const best = this.points[this.lowest]!.change;
    if (change < best) this.lowest = this.points.length - 1;
    if (change > best + Math.max(RISEN_LEAST, -RISEN_SHARE * best)) this.diverged = lr;
    return point;
  }

  found(): FoundRate {
    const { points, lowest, diverged } = this;
    const at = points[lowest];
    if (!at || at.change > -LEAST_FALL * points[0]!.loss) {
      throw new ValueError({
        op: "findRate",
        arg: "the loss",
        expected: "one that falls at some rate",
        got: `one that rises from ${points[0]?.loss} on`,
        hint: "Begin with a lower rate, or take more steps.",
      });
    }
    const lr = Number(this.rateAt(SHARE * at.change).toPrecision(2));
    return { lr, points, lowest: at.lr, diverged };
  }

  /** The rate at which the change first came to a value, between two points as on a logarithmic scale. */
  private rateAt(change: number): number {
    const { points } = this;
    const i = points.findIndex((point) => point.change <= change);
    const [before, after] = [points[Math.max(0, i - 1)]!, points[i]!];
    const isBetween = i > 0 && Number.isFinite(before.change);
    const part = isBetween ? (before.change - change) / (before.change - after.change) : 1;
    return before.lr * (after.lr / before.lr) ** part;
  }
}
