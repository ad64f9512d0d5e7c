// Run: one training run in its parts, and its folder.
import { existsSync } from "node:fs";
import { gpu } from "../../gpu/device.ts";
import type { Profile } from "../../kernels/profile.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { removeHalfWritten } from "../../tensor/files.ts";
import { evaluate } from "../evaluate.ts";
import { fit } from "../fit.ts";
import type { FitOptions, FitProgress, FitResult, Look } from "../fit_options.ts";
import { FolderLock } from "../folder_lock.ts";
import type { RowSet } from "../rows.ts";
import type { Base, BaseHooks } from "./base.ts";
import { untrainedLayers } from "./check_trained.ts";
import type { Origin } from "./config_error.ts";
import { Interrupted } from "./interrupted.ts";
import { type Prepared, prepare } from "./method.ts";
import { MetricsFile, stepEvent } from "./metrics_file.ts";
import type { PlannedConfig } from "./plan.ts";
import { profileEvents, profileStep } from "./profile_step.ts";
import { type Rated, type RateHooks, searchRate, withRate } from "./rate.ts";
import {
  bytesOf,
  mean,
  median,
  peakBytes,
  type RunSummary,
  readRun,
  surroundings,
  writeRun,
} from "./record.ts";
import type { RunData } from "./run_data.ts";
import { saveTrained } from "./save_trained.ts";
import { withSelfReplay } from "./self_replay.ts";

/** What watches a run, shares things with it, or ends it. */
export interface RunHooks extends BaseHooks, RateHooks {
  /** Where the configuration comes from, for messages. */
  origin?: Origin;
  /** What was typed, for the record. */
  command?: readonly string[];
  /** Model, tokenizer and data that runs share. Its model must be that of the configuration. */
  base?: Base;
  /** Ends this call earlier, as `limits` of `fit`; the schedule stays. */
  limits?: NonNullable<FitOptions["limits"]>;
  /** Called before the first step, when everything is known but the outcome. */
  onStart?: (run: Readonly<RunSummary>) => void;
  onStep?: (progress: FitProgress) => void;
  onLook?: (look: Look) => void;
  /** Called while a held-out set is looked at: before, on the way, and at the end. */
  onLooking?: FitOptions["onLooking"];
  /** Profiles a step in the end, into `metrics.jsonl` and `trace.json` of the run's folder. */
  onProfile?: (profile: Profile) => void;
  /** Called once training has ended, with the model as it will be saved. */
  onTrained?: (model: CausalLM, data: RunData) => Promise<void> | void;
}

/** What a run begins with. */
interface HeldOutBefore {
  valid: RunSummary["valid"];
  general: RunSummary["general"];
  tokens: number | null;
}

export interface Before {
  /** What an earlier call of the run left. */
  earlier: RunSummary | null;
  heldOut: HeldOutBefore;
}

/** What losses and a rate that were found before the first step depend on. */
function baseFacts(config: PlannedConfig): string {
  const { model, tokenizer, base_dtype, data, method, lora, seed, training } = config;
  const { batch, eval_rows } = training;
  return JSON.stringify([model, tokenizer, base_dtype, data, method, lora, seed, batch, eval_rows]);
}

/** One run with everything checked and loaded, in its parts: before, start, fit, finish. */
export class Run {
  private summary!: RunSummary;
  private metrics!: MetricsFile;
  /** Of each step of this call. */
  private readonly tokens: number[] = [];

  constructor(
    private readonly config: PlannedConfig,
    private readonly model: CausalLM,
    private data: RunData,
    private readonly base: Base,
    private readonly hooks: RunHooks,
  ) {}

  async run(): Promise<RunSummary> {
    const { config, model, hooks } = this;
    const lock = await this.lock();
    try {
      const before = await this.before();
      const prepared = await prepare(model, config);
      try {
        const search = () => searchRate(model, prepared, this.data.train, config, hooks);
        const rated = await withRate(config, before.earlier, search);
        const moved = await prepared.movedAt(rated.config.training.lr);
        await this.start(prepared, rated, before);
        const result = await fit(model, { ...this.fitOptions(rated), ...moved });
        return await this.finish(prepared, result, before);
      } finally {
        prepared.lora?.undo();
      }
    } finally {
      await lock.release();
    }
  }

  /** Keeps other processes out of the run's folder. */
  lock(): Promise<FolderLock> {
    return FolderLock.take("config", "output", this.config.output);
  }

  /** What the base is before it is changed, and what an earlier call of the run left. */
  async before(): Promise<Before> {
    const { config, hooks, model } = this;
    for (const part of ["", "/adapter", "/model"]) await removeHalfWritten(config.output + part);
    const found = config.resume === false ? null : await readRun(config.output);
    // A run that was killed before its first checkpoint begins anew; what it found before is good for itself alone.
    const goesOn = existsSync(`${this.checkpointFolder}/last.safetensors`);
    const earlier = found && (goesOn || baseFacts(found.config) === baseFacts(config)) ? found : null; // biome-ignore format: one line
    if (config.data.replay?.self) hooks.onPhase?.("writing texts to replay");
    this.data = await withSelfReplay(config, this.data, model, hooks.signal);
    const heldOut = await this.heldOutBefore(earlier);
    if (hooks.signal?.aborted) throw new Interrupted();
    return { earlier, heldOut };
  }

  /** Opens the run's files. Nothing has been trained. */
  async start(
    { count, notes = [] }: Pick<Prepared, "count"> & { notes?: readonly string[] },
    rated: Rated,
    { earlier, heldOut }: Before,
  ): Promise<void> {
    const { config, hooks } = this;
    this.metrics = await MetricsFile.open(`${config.output}/metrics.jsonl`, earlier !== null);
    this.summary = { ...this.atStart(count(), heldOut, earlier), ...rated };
    this.summary.notes.push(...notes);
    // The record of a run that goes on stays until its checkpoint is found to be of this run.
    if (!earlier || config.training.checkpoint_every === 0) await writeRun(this.summary);
    hooks.onStart?.(this.summary);
    gpu("trainRun").resetPeak();
  }

  /** Losses of the base; those that an earlier call of the run found, where there are some. */
  private async heldOutBefore(earlier: RunSummary | null): Promise<HeldOutBefore> {
    const { valid, general } = this.data;
    if (earlier)
      return { valid: earlier.valid, general: earlier.general, tokens: earlier.valid_tokens };
    this.hooks.onPhase?.("looking at what is held out");
    const { base_dtype, data, training } = this.config;
    const asked = JSON.stringify([base_dtype, data, training.batch, training.eval_rows]);
    const look = async () =>
      [await this.lossOn("valid", valid), await this.lossOn("general", general)] as const;
    const [v, g] = await this.base.once(asked, look);
    return {
      valid: v && { before: v.loss, after: null, best: null },
      general: g && { before: g.loss, after: null, forgetting: null },
      tokens: v?.tokens ?? null,
    };
  }

  private async lossOn(set: string, rows: RowSet | null) {
    const { batch, eval_rows: most } = this.config.training;
    const onRows = (done: number, of: number) => this.hooks.onLooking?.(set, done, of);
    return rows && (await evaluate(this.model, rows, { batch, most, onRows }));
  }

  private atStart(
    parameters: RunSummary["parameters"],
    before: HeldOutBefore,
    earlier: RunSummary | null,
  ): Omit<RunSummary, "config" | "found_rate"> {
    const { config, data, hooks } = this;
    const now = surroundings();
    return {
      ...now,
      folder: config.output,
      command: hooks.command ? [...hooks.command] : null,
      started: earlier?.started ?? now.started,
      ...{ ended: null, stopped: null, steps: 0, skipped: 0 },
      parameters,
      ...{ memory: null, step_ms: null, tokens_per_second: null, saved: null, adapter_bytes: null },
      valid: before.valid,
      general: before.general,
      train_tokens: data.tokens,
      valid_tokens: before.tokens,
      data: data.counts,
      notes: [...data.notes],
    };
  }

  /** All but what is trained. */
  fitOptions({ config }: Rated): FitOptions {
    const { data, hooks, metrics } = this;
    const t = config.training;
    const { valid, general } = data;
    const sets = { ...(valid ? { valid } : {}), ...(general ? { general } : {}) };
    const { patience, min_delta: minDelta, eval_rows: most, capture, seconds } = t;
    const looks = { every: t.eval_every, most, ...(patience ? { patience, minDelta } : {}) };
    const limits = { ...(seconds === undefined ? {} : { seconds }), ...hooks.limits };
    return {
      train: data.train,
      ...{ steps: t.steps, batch: t.batch, accumulate: t.accumulate, lr: t.lr, warmup: t.warmup },
      ...{ schedule: t.schedule, weightDecay: t.weight_decay, clip: t.clip, seed: config.seed },
      onNonFinite: t.on_non_finite,
      ...(capture === undefined ? {} : { capture }),
      ...(Object.keys(sets).length > 0 ? { validate: { rows: sets, ...looks } } : {}),
      ...(t.checkpoint_every > 0 ? { checkpoint: this.checkpoint(t.checkpoint_every) } : {}),
      ...(hooks.signal ? { signal: hooks.signal } : {}),
      limits,
      onStep: (progress) => {
        metrics.goOnAfter(progress.step - 1);
        metrics.add(stepEvent(progress));
        this.tokens.push(progress.tokens);
        hooks.onStep?.(progress);
      },
      onLook: (look) => {
        const { set, step, loss, accuracy } = look;
        metrics.add({ kind: set === "general" ? "general" : "valid", step, loss, accuracy });
        hooks.onLook?.(look);
      },
      ...(hooks.onLooking ? { onLooking: hooks.onLooking } : {}),
    };
  }

  private get checkpointFolder(): string {
    return `${this.config.output}/checkpoint`;
  }

  private checkpoint(every: number): NonNullable<FitOptions["checkpoint"]> {
    const { resume } = this.config;
    return {
      folder: this.checkpointFolder,
      every,
      onOpen: () => writeRun(this.summary),
      resume: resume === false ? false : "if-present",
    };
  }

  /** Looks at what came of it, and saves; the adapter is active. */
  async finish(
    { lora, adapter }: Pick<Prepared, "lora"> & { adapter?: string },
    result: FitResult,
    { earlier }: Before,
  ): Promise<RunSummary> {
    const { config, data, hooks, model, summary } = this;
    summary.memory = peakBytes(earlier?.memory);
    const { losses, stopped, skipped, stepMs } = result;
    const steady = median(stepMs.slice(Math.min(2, stepMs.length - 1)));
    const { batch, accumulate } = config.training;
    const tokens = mean(this.tokens) ?? batch * accumulate * data.length;
    Object.assign(summary, { stopped, steps: losses.length, skipped: skipped.length });
    summary.step_ms = steady;
    summary.tokens_per_second = steady === null ? null : (1000 * tokens) / steady;
    await this.lookAtTheEnd(result);
    summary.notes.push(...(await untrainedLayers(lora)));
    if (skipped.length > 0)
      summary.notes.push(
        `${skipped.length} ${skipped.length === 1 ? "step" : "steps"} moved nothing: not finite`,
      );
    await hooks.onTrained?.(model, data);
    hooks.onPhase?.("saving");
    summary.saved = await saveTrained(model, lora, config, this.base.folder, adapter);
    summary.adapter_bytes = await bytesOf(summary.saved);
    summary.ended = new Date().toISOString();
    await writeRun(summary);
    if (hooks.onProfile && stopped !== "aborted") hooks.onProfile(await this.profile());
    return summary;
  }

  private async profile(): Promise<Profile> {
    const { config, data, model, metrics, hooks } = this;
    hooks.onPhase?.("profiling a step");
    const trace = `${config.output}/trace.json`;
    const found = await profileStep(model, data.train, config.training.batch, trace);
    for (const event of profileEvents(found)) metrics.add(event);
    return found;
  }

  private async lookAtTheEnd({ losses, valid, best }: FitResult): Promise<void> {
    const { summary, data, metrics } = this;
    const step = losses.length;
    metrics.goOnAfter(step);
    const at = best?.step ?? step;
    const looks = valid.filter(({ set }) => set === "valid");
    // Weights that a look has seen are not looked at again, and every other end is a look of its own.
    const seen = valid.filter((look) => look.step === at);
    if (seen.length === 0) this.hooks.onPhase?.("looking at what is held out");
    const lookAt = async (set: "valid" | "general", rows: RowSet | null) => {
      const known = seen.find((look) => look.set === set) ?? null;
      if (known || !rows) return known;
      const { loss, accuracy } = (await this.lossOn(set, rows))!;
      if (!metrics.has(set, at)) metrics.add({ kind: set, step: at, loss, accuracy });
      if (set === "valid") looks.push({ set, step: at, loss, accuracy });
      return { loss };
    };
    const [v, g] = [await lookAt("valid", data.valid), await lookAt("general", data.general)];
    if (v && summary.valid) {
      const lowest = looks.reduce<Look | null>((a, b) => (a && a.loss <= b.loss ? a : b), null);
      summary.valid.after = v.loss;
      summary.valid.best = lowest && { step: lowest.step, loss: lowest.loss };
    }
    if (g && summary.general) {
      summary.general.after = g.loss;
      summary.general.forgetting = g.loss - summary.general.before;
    }
  }
}
