// fit: the training loop. Rows in, one optimiser step each, with schedule, clipping, validation.
import type { CausalLM } from "../nn/causal_lm.ts";
import { AdamW, decayGroups, type ParameterGroup, scheduleOf } from "../nn/optim/index.ts";
import { Tensor } from "../tensor/tensor.ts";
import { BestWeights } from "./best_weights.ts";
import { evaluate } from "./evaluate.ts";
import {
  type FitOptions,
  type FitProgress,
  type FitResult,
  type Look,
  type Settings,
  type Stopped,
  settingsOf,
} from "./fit_options.ts";
import { Smoothed } from "./smoothed.ts";
import { type StepFacts, TrainStep } from "./train_step.ts";

/**
 * Trains a model with AdamW. Its mode is as before afterwards, also where something throws.
 * The model's code runs for the first two steps; from then on what it did on the GPU is repeated, so that a
 * change of the model on the way, of dropout or of what is frozen, has no effect: `capture: false` is for that.
 * @throws ValueError where an option is out of range, and for what AdamW refuses;
 *   CaptureError as `options.capture` says
 */
export async function fit(model: CausalLM, options: FitOptions): Promise<FitResult> {
  const settings = settingsOf(options);
  using run = new Run(model, options, settings);
  const wasTraining = model.training;
  model.train();
  try {
    return await run.toTheEnd();
  } finally {
    model.train(wasTraining);
  }
}

/** One call of fit. */
class Run implements Disposable {
  private readonly losses: number[] = [];
  private readonly gradNorms: number[] = [];
  private readonly stepMs: number[] = [];
  private readonly valid: Look[] = [];
  private readonly skipped: number[] = [];
  private readonly best: BestWeights;
  private readonly smoothed: Smoothed;
  private readonly optimizer: AdamW;
  /** Learning rate of each group at the top of the schedule. */
  private readonly rates: number[];
  private readonly step: TrainStep;
  private readonly began = performance.now();

  constructor(
    private readonly model: CausalLM,
    private readonly options: FitOptions,
    private readonly settings: Settings,
  ) {
    const { lr, weightDecay, batch, accumulate, clip, smoothing, validate } = settings;
    const groups = groupsOf(options.parameters ?? model.trainableParameters(), weightDecay);
    this.optimizer = new AdamW(groups, { lr, weightDecay });
    this.rates = this.optimizer.groups.map((group) => group.lr);
    const { capture, train } = options;
    const sizes = { batch, accumulate, clip, capture, length: train.length };
    this.step = new TrainStep(model, this.optimizer, sizes);
    const trained = [...new Set(groups.flatMap(({ params }) => params))];
    this.best = new BestWeights(trained, validate?.minDelta ?? 0);
    this.smoothed = new Smoothed(smoothing);
  }

  async toTheEnd(): Promise<FitResult> {
    let stopped = this.stopped();
    while (!stopped) {
      await this.oneStep();
      await this.look();
      stopped = this.stopped();
    }
    const { losses, gradNorms, stepMs, valid, skipped } = this;
    this.best.restore();
    const ended = { best: this.best.look, stopped, captured: this.step.isCaptured };
    return { losses, gradNorms, stepMs, valid, skipped, ...ended };
  }

  dispose(): void {
    this.step.dispose();
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Why there is no further step, or null. */
  private stopped(): Stopped | null {
    const { losses, skipped, settings, options, stepMs } = this;
    const { limits, signal } = options;
    if (losses.length >= settings.steps) return "steps";
    if (skipped.length > 0 && settings.onNonFinite === "stop") return "nonFinite";
    if (this.looksInVain() >= (settings.validate?.patience ?? Infinity)) return "patience";
    if (signal?.aborted) return "aborted";
    const isLate = performance.now() - this.began >= (limits?.seconds ?? Infinity) * 1000;
    return isLate || stepMs.length >= (limits?.steps ?? Infinity) ? "limit" : null;
  }

  /** Looks since the best one. */
  private looksInVain(): number {
    const since = this.best.look?.step ?? 0;
    return this.valid.filter(({ step }) => step > since).length;
  }

  private async oneStep(): Promise<void> {
    const began = performance.now();
    const { batch, accumulate, seed, schedule, warmup, steps } = this.settings;
    const done = this.losses.length;
    const factor = scheduleOf(schedule, warmup, steps)(done);
    for (const [i, rate] of this.rates.entries()) this.optimizer.groups[i]!.lr = rate * factor;
    const rows = this.options.train.rows(batch * accumulate, seed, done);
    const facts = await this.step.compute(rows);
    const isGood = Number.isFinite(facts.loss) && Number.isFinite(facts.gradNorm);
    if (isGood) this.step.update();
    else {
      this.step.skip();
      this.skipped.push(done + 1);
    }
    this.losses.push(facts.loss);
    this.gradNorms.push(facts.gradNorm);
    this.stepMs.push(performance.now() - began);
    this.smoothed.add(facts.loss);
    this.options.onStep?.(this.progress(facts, !isGood));
  }

  private async look(): Promise<void> {
    const { settings, options, model } = this;
    const step = this.losses.length;
    if (!settings.validate || !options.validate || step % settings.validate.every !== 0) return;
    const { most, patience } = settings.validate;
    const loss = await evaluate(model, options.validate.windows, { batch: settings.batch, most });
    this.valid.push({ step, loss });
    if (patience !== null) await this.best.offer({ step, loss });
  }

  private progress({ loss, gradNorm }: StepFacts, skipped: boolean): FitProgress {
    const { batch, accumulate, steps } = this.settings;
    const { length: step } = this.losses;
    const { length: timed } = this.stepMs;
    const seconds = this.stepMs.reduce((a, b) => a + b, 0) / 1000;
    return {
      step,
      steps,
      loss,
      smoothedLoss: this.smoothed.value,
      gradNorm,
      lr: this.optimizer.lr,
      skipped,
      tokensPerSecond: (timed * batch * accumulate * this.options.train.length) / seconds,
      secondsLeft: (seconds / timed) * (steps - step),
    };
  }
}

function groupsOf(
  params: readonly Tensor[] | readonly ParameterGroup[],
  weightDecay: number,
): readonly ParameterGroup[] {
  const list = params as readonly (Tensor | ParameterGroup)[];
  const isList = list.every((p) => p instanceof Tensor);
  return isList ? decayGroups(list as Tensor[], weightDecay) : (list as ParameterGroup[]);
}
