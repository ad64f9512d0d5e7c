// What fit is asked and what it answers.
import { ValueError } from "../gpu/errors.ts";
import { checkWord } from "../kernels/check.ts";
import type { AdamW } from "../nn/optim/adamw.ts";
import { checkNumber, type ParameterGroup } from "../nn/optim/optimizer.ts";
import { type ScheduleName, scheduleOf } from "../nn/optim/schedule.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkCount, type RowSet, type TrainingRows } from "./rows.ts";

export interface FitOptions {
  /** What to train on: `Windows` of a text, or any other pure function of seed and step. */
  train: TrainingRows;
  /**
   * What to train, or groups with their own `lr` and `weightDecay`, such as `loraPlusGroups` makes.
   * Default: every parameter of the model that wants a gradient.
   */
  parameters?: readonly Tensor[] | readonly ParameterGroup[];
  /**
   * What moves them: an AdamW of another kind, such as `LoraFA`, with its own groups, in the place of
   * `parameters` and `weightDecay`. It is freed in the end.
   */
  optimizer?: AdamW;
  steps: number;
  /** Rows per micro-batch. */
  batch: number;
  /** Micro-batches per step: k of them are one batch k times as large, in the memory of one. Default 1. */
  accumulate?: number;
  /** Highest learning rate, reached after `warmup` steps. */
  lr: number;
  warmup?: number;
  /** How the rate falls after the warm-up: cosine and linear end at 0. Default "cosine". */
  schedule?: ScheduleName;
  /** Of matrices: norms, biases and other vectors do not decay. Default 0. */
  weightDecay?: number;
  /** Largest global norm of the gradients. Default 1. */
  clip?: number;
  /** Chooses the rows. Default 0. */
  seed?: number;
  /** Held-out rows, and how often to look at them. */
  validate?: ValidateOptions;
  /**
   * A loss or gradient that is NaN or infinite moves nothing. "stop", the default: training ends there;
   * "skip": it goes on with the next step. `skipped` of the result lists such steps.
   */
  onNonFinite?: "stop" | "skip";
  /** Where to keep what the run needs to go on, or to have it go on. */
  checkpoint?: CheckpointOptions;
  /** Ends this call earlier, after so many steps or seconds of its own, or at a step; the schedule stays that of `steps`. */
  limits?: { steps?: number; seconds?: number; until?: number };
  /** Ends training after the step that runs; what there is is returned. */
  signal?: AbortSignal;
  /** How much of the past `smoothedLoss` keeps, in [0, 1). Default 0.98. */
  smoothing?: number;
  /**
   * Steps are captured and replayed, which changes no bit of the result. false: every step runs eagerly.
   * true: a model whose step cannot be captured, for it reads or uploads on its way, throws CaptureError;
   * by default it is trained eagerly.
   */
  capture?: boolean;
  /**
   * Keeps of each layer its input alone and computes it again in backward, as `model.gradientCheckpointing`: less
   * memory for more time, and the same bits. A run may go on with another choice. Default: as the model is set.
   */
  gradientCheckpointing?: boolean;
  onStep?: (progress: FitProgress) => void;
  /** Called after each look at a held-out set. */
  onLook?: (look: Look) => void;
  /** Called while there is a look at a held-out set, after each batch. */
  onLooking?: (set: string, done: number, rows: number) => void;
}

export interface ValidateOptions {
  /**
   * Rows that are not trained on; or several sets by name, such as `{ target, general }` to see what is
   * forgotten on the way. The first one tells which look is best. A set alone is named `valid`.
   */
  rows: RowSet | Readonly<Record<string, RowSet>>;
  /** Steps between looks. */
  every: number;
  /** Rows of each set per look, spread evenly over it and the same each time. Default 32. */
  most?: number;
  /**
   * Training ends after so many looks in a row without a new lowest loss. The weights of the best look
   * are kept on the host, and are what the model has in the end. Absent: the last weights stay.
   */
  patience?: number;
  /** By how much a loss must be lower to count as such. Default 0. */
  minDelta?: number;
}

/** Checkpoints are written after every so many steps and when fit returns. */
export interface CheckpointOptions {
  /**
   * Gets `last.safetensors`, from which a run goes on, and with patience `best.safetensors`, the trained
   * parameters of the best look. Made if need be.
   */
  folder: string;
  /** Steps between checkpoints. */
  every: number;
  /**
   * true: go on from the folder's checkpoint, which must be there; "if-present": where it is there;
   * false, the default: begin anew, in a folder without one. Model, data and options must be those of
   * the run (limits may differ); the random state is the checkpoint's. On the same device the run ends
   * with the same bits as one without a break.
   */
  resume?: boolean | "if-present";
  /** Called when the folder is open, and what is there is found to be of this run: before, nothing may be changed. */
  onOpen?: () => Promise<void>;
}

export interface FitProgress {
  /** Steps done, of `steps`. */
  step: number;
  steps: number;
  loss: number;
  /** Exponential moving average of the loss. */
  smoothedLoss: number;
  /** Global norm of the gradients before clipping. */
  gradNorm: number;
  /** Learning rate of the step, of the first group. */
  lr: number;
  /** Whether the step moved nothing, for loss or gradients were not finite. */
  skipped: boolean;
  /** Wall time of the step, without validation. */
  stepMs: number;
  /** Tokens of the step's rows, padding included. */
  tokens: number;
  /** Tokens per second over the steps of this call so far. */
  tokensPerSecond: number;
  secondsLeft: number;
}

/** A look at a held-out set. */
export interface Look {
  /** Its name; `valid` where there is one set without a name. */
  set: string;
  step: number;
  /** Mean over its targets, in nats. */
  loss: number;
  /** Share of its targets that are the likeliest token. */
  accuracy: number;
}

/** Why training ended: all steps done, patience lost, a limit, the signal, or a number that is none. */
export type Stopped = "steps" | "patience" | "limit" | "aborted" | "nonFinite";

export interface FitResult {
  /** Training loss of every step. */
  losses: number[];
  /** Global norm of the gradients of every step, before clipping. */
  gradNorms: number[];
  /** Looks at the held-out sets, in order of steps and then of sets. */
  valid: Look[];
  /** The look whose weights the model has now; null where no patience was asked for. */
  best: Look | null;
  /** Steps, counted from 1, that moved nothing. */
  skipped: number[];
  stopped: Stopped;
  /** Wall time of every step, without validation. */
  stepMs: number[];
  /** Whether steps were replayed. */
  captured: boolean;
}

/** The numbers of the options that decide what comes out. */
export type Settings = ReturnType<typeof settingsOf>;

/**
 * The options' numbers, with defaults.
 * @throws ValueError for one out of range
 */
export function settingsOf(options: FitOptions) {
  const { steps, batch, lr, validate, limits } = options;
  const { accumulate = 1, warmup = 0, schedule = "cosine", weightDecay = 0, clip = 1 } = options;
  const { seed = 0, onNonFinite = "stop", smoothing = 0.98 } = options;
  for (const [arg, n] of Object.entries({ steps, batch, accumulate })) checkCount("fit", arg, n);
  checkNumber("fit", "warmup", warmup, warmup >= 0, "a number of at least 0");
  scheduleOf(schedule, warmup, steps);
  checkWord("fit", "onNonFinite", onNonFinite, ["stop", "skip"]);
  checkNumber("fit", "smoothing", smoothing, smoothing >= 0 && smoothing < 1, "in [0, 1)");
  if (limits?.steps !== undefined) checkCount("fit", "limits.steps", limits.steps);
  if (limits?.until !== undefined) checkCount("fit", "limits.until", limits.until);
  if (limits?.seconds !== undefined && !(limits.seconds > 0)) {
    const facts = { arg: "limits.seconds", expected: "above 0", got: `${limits.seconds}` };
    throw new ValueError({ op: "fit", ...facts });
  }
  if (options.checkpoint) checkCount("fit", "checkpoint.every", options.checkpoint.every);
  const looks = validate ? looksOf(validate) : null;
  const rates = { lr, warmup, schedule, weightDecay, clip };
  return { steps, batch, accumulate, ...rates, seed, onNonFinite, smoothing, validate: looks };
}

/** The held-out sets by name, the one that tells which look is best first. */
export function setsOf(validate: ValidateOptions | undefined): ReadonlyMap<string, RowSet> {
  if (!validate) return new Map();
  const { rows } = validate;
  return new Map(isRowSet(rows) ? [["valid", rows]] : Object.entries(rows));
}

const isRowSet = (rows: ValidateOptions["rows"]): rows is RowSet => typeof rows.row === "function";

function looksOf(validate: ValidateOptions) {
  const { every, most = 32, patience, minDelta = 0 } = validate;
  if (setsOf(validate).size === 0) {
    const facts = { arg: "validate.rows", expected: "at least one set", got: "none" };
    throw new ValueError({ op: "fit", ...facts });
  }
  checkCount("fit", "validate.every", every);
  checkCount("fit", "validate.most", most);
  if (patience !== undefined) checkCount("fit", "validate.patience", patience);
  checkNumber("fit", "validate.minDelta", minDelta, minDelta >= 0, "a number of at least 0");
  return { every, most, patience: patience ?? null, minDelta };
}
