// fit: the training loop. Rows in, one optimiser step each, with schedule, clipping, validation.
import type { CausalLM } from "../nn/causal_lm.ts";
import { AdamW, scheduleOf } from "../nn/optim/index.ts";
import { BestWeights } from "./best_weights.ts";
import { checkLength, evaluate } from "./evaluate.ts";
import {
  type FitOptions,
  type FitProgress,
  type FitResult,
  type Look,
  type Settings,
  type Stopped,
  setsOf,
  settingsOf,
} from "./fit_options.ts";
import { History } from "./history.ts";
import { groupsOf } from "./parameter_groups.ts";
import { Prefetched } from "./prefetched.ts";
import type { RowSet } from "./rows.ts";
import { RunFolder } from "./run_folder.ts";
import { type Seat, type Step, seatAlone } from "./seat.ts";
import { Smoothed } from "./smoothed.ts";
import type { StepFacts } from "./train_step.ts";
import type { RunState } from "./training_checkpoint.ts";

/**
 * Trains a model with AdamW. Its modes are as before afterwards, also where something throws.
 * The model's code runs for the first two steps; from then on what it did on the GPU is repeated, so that a
 * change of the model on the way, of dropout or of what is frozen, has no effect: `capture: false` is for that.
 * @throws ValueError where an option is out of range, and for what AdamW refuses;
 *   CaptureError as `options.capture` says; FormatError where a checkpoint is not of this run
 */
export async function fit(model: CausalLM, options: FitOptions): Promise<FitResult> {
  const settings = settingsOf(options);
  using run = new Run(model, options, settings);
  const { training, gradientCheckpointing } = model;
  model.train();
  model.gradientCheckpointing = options.gradientCheckpointing ?? gradientCheckpointing;
  try {
    return await run.toTheEnd();
  } finally {
    model.train(training);
    model.gradientCheckpointing = gradientCheckpointing;
  }
}

/** One call of fit. */
export class Run implements Disposable {
  private readonly history = new History();
  private readonly best: BestWeights;
  private readonly optimizer: AdamW;
  private readonly step: Step;
  private readonly rows: Prefetched;
  private readonly state: RunState;
  private readonly began = performance.now();
  private readonly smoothed: Smoothed;
  private readonly heldOut: ReadonlyMap<string, RowSet>;
  private folder: RunFolder | null = null;
  /** Of the steps of this call. */
  private tokens = 0;

  constructor(
    private readonly model: CausalLM,
    private readonly options: FitOptions,
    private readonly settings: Settings,
    private readonly seat: Seat = seatAlone(model),
  ) {
    const { lr, weightDecay, batch, accumulate, clip, smoothing, validate, seed, steps } = settings;
    this.heldOut = setsOf(options.validate);
    checkLength("fit", "train", options.train, model);
    for (const [name, rows] of this.heldOut) {
      checkLength("fit", `validate.rows, ${name}`, rows, model);
    }
    const groups = groupsOf(options.parameters ?? model.trainableParameters(), weightDecay);
    this.optimizer = options.optimizer ?? new AdamW(groups, { lr, weightDecay });
    const { capture, train } = options;
    const sizes = { batch, accumulate, clip, capture, length: train.length };
    this.step = seat.step(this.optimizer, sizes);
    this.rows = new Prefetched(train, batch * accumulate, seed, steps);
    const parameters = seat.named(groups.flatMap(({ params }) => params));
    this.best = new BestWeights([...parameters.values()], validate?.minDelta ?? 0);
    const { optimizer, history, best } = this;
    const rates = optimizer.groups.map((group) => group.lr);
    this.state = { parameters, optimizer, rates, history, best, random: seat.random };
    this.smoothed = new Smoothed(smoothing);
  }

  async toTheEnd(): Promise<FitResult> {
    const { history, best } = this;
    if (this.options.checkpoint) await this.open();
    let stopped = this.stopped();
    try {
      while (!stopped) {
        await this.oneStep();
        await this.look();
        stopped = this.stopped();
        if (stopped || history.step % this.every === 0) await this.folder?.saveLast();
      }
    } finally {
      await this.folder?.close();
    }
    best.restore();
    const { losses, gradNorms, stepMs, valid, skipped } = history;
    const ended = { best: best.look, stopped, captured: this.step.isCaptured };
    return { losses, gradNorms, stepMs, valid, skipped, ...ended };
  }

  dispose(): void {
    this.step[Symbol.dispose]();
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private get every(): number {
    return this.options.checkpoint?.every ?? Infinity;
  }

  private async open(): Promise<void> {
    const { seat, options, settings, state } = this;
    this.folder = await RunFolder.open(seat, options, settings, state);
    for (const loss of this.history.losses) this.smoothed.add(loss);
  }

  /** Why there is no further step, or null. */
  private stopped(): Stopped | null {
    const { history, settings, options, best } = this;
    const { limits, signal } = options;
    if (history.step >= settings.steps) return "steps";
    if (history.skipped.length > 0 && settings.onNonFinite === "stop") return "nonFinite";
    const [first] = this.heldOut.keys();
    const inVain = history.looksSince(best.look?.step ?? 0, first ?? "");
    if (inVain >= (settings.validate?.patience ?? Infinity)) return "patience";
    if (signal?.aborted) return "aborted";
    const isLate = performance.now() - this.began >= (limits?.seconds ?? Infinity) * 1000;
    const isEnough = history.own >= (limits?.steps ?? Infinity);
    return isLate || isEnough || history.step >= (limits?.until ?? Infinity) ? "limit" : null;
  }

  private async oneStep(): Promise<void> {
    const began = performance.now();
    const { schedule, warmup, steps } = this.settings;
    const { history, optimizer } = this;
    const done = history.step;
    const factor = scheduleOf(schedule, warmup, steps)(done);
    for (const [i, rate] of this.state.rates.entries()) optimizer.groups[i]!.lr = rate * factor;
    const rows = this.rows.of(done);
    const tokens = rows.ids.length;
    const facts = await this.step.compute(rows, () => this.rows.prepare(done + 1));
    const isGood = Number.isFinite(facts.loss) && Number.isFinite(facts.gradNorm);
    if (isGood) this.step.update();
    else {
      this.step.skip();
      history.skipped.push(done + 1);
    }
    history.add(facts, facts.ms ?? performance.now() - began);
    this.smoothed.add(facts.loss);
    this.tokens += tokens;
    this.options.onStep?.(this.progress(facts, !isGood, tokens));
  }

  private async look(): Promise<void> {
    const { settings, model, history, seat } = this;
    const { step } = history;
    if (!settings.validate || step % settings.validate.every !== 0) return;
    const { most, patience } = settings.validate;
    const looks: Look[] = [];
    for (const [set, rows] of this.heldOut) {
      const onRows = (done: number, of: number) => this.options.onLooking?.(set, done, of);
      const at = { batch: settings.batch, most, onRows };
      const { loss, accuracy } = await seat.look(() => evaluate(model, rows, at));
      looks.push({ set, step, loss, accuracy });
    }
    history.valid.push(...looks);
    const isBest = patience !== null && (await this.best.offer(looks[0]!));
    if (isBest) await this.folder?.saveBest();
    for (const look of looks) this.options.onLook?.(look);
  }

  private progress({ loss, gradNorm }: StepFacts, skipped: boolean, tokens: number): FitProgress {
    const { steps } = this.settings;
    const { step, own, seconds } = this.history;
    return {
      step,
      steps,
      loss,
      smoothedLoss: this.smoothed.value,
      gradNorm,
      lr: this.optimizer.lr,
      skipped,
      stepMs: this.history.stepMs.at(-1)!,
      tokens,
      tokensPerSecond: this.tokens / seconds,
      secondsLeft: (seconds / own) * (steps - step),
    };
  }
}
