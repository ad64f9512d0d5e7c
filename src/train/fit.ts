// fit: the training loop. Windows in, one optimiser step each, with schedule, clipping, validation.
import { backward } from "../autograd/backward.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { AdamW, clipGradNorm, cosineSchedule } from "../nn/optim/index.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CapturedStep } from "./captured_step.ts";
import { evaluate } from "./evaluate.ts";
import { checkCount, type Windows } from "./windows.ts";

export interface FitOptions {
  /** Text to train on. */
  train: Windows;
  /** What to train. Default: every parameter of the model that wants a gradient. */
  parameters?: readonly Tensor[];
  steps: number;
  /** Windows per step. */
  batch: number;
  /** Highest learning rate, reached after `warmup` steps, then falling along a cosine to 0. */
  lr: number;
  warmup?: number;
  weightDecay?: number;
  /** Largest global norm of the gradients. Default 1. */
  clip?: number;
  /** Chooses the windows. Default 0. */
  seed?: number;
  /** Held-out text, and how often to look at it (in steps). */
  validate?: { windows: Windows; every: number; most?: number };
  /**
   * Steps are captured and replayed, which changes no bit of the result. false: every step runs eagerly.
   * true: a model whose step cannot be captured, for it reads or uploads on its way, throws CaptureError;
   * by default it is trained eagerly.
   */
  capture?: boolean;
  onStep?: (progress: FitProgress) => void;
}

export interface FitProgress {
  /** Steps done, of `steps`. */
  step: number;
  steps: number;
  loss: number;
  /** Tokens per second over the steps so far. */
  tokensPerSecond: number;
  secondsLeft: number;
}

export interface FitResult {
  /** Training loss of every step. */
  losses: number[];
  /** Validation loss after some steps. */
  valid: { step: number; loss: number }[];
  /** Wall time of every step, without validation. */
  stepMs: number[];
  /** Whether steps were replayed. */
  captured: boolean;
}

/**
 * Trains a model on windows of text. Its mode is as before afterwards, also where something throws.
 * The model's code runs for the first two steps; from then on what it did on the GPU is repeated, so that a
 * change of the model on the way, of dropout or of what is frozen, has no effect: `capture: false` is for that.
 * @throws ValueError where steps or batch is no positive integer, and for what AdamW refuses;
 *   CaptureError as `options.capture` says
 */
export async function fit(model: CausalLM, options: FitOptions): Promise<FitResult> {
  const { train, steps, batch, lr, warmup = 0, clip = 1, seed = 0, validate } = options;
  const parameters = options.parameters ?? model.trainableParameters();
  const factor = cosineSchedule(warmup, steps);
  checkCount("fit", "steps", steps);
  checkCount("fit", "batch", batch);
  using optimizer = new AdamW([...parameters], { lr, weightDecay: options.weightDecay ?? 0 });
  const { ids, targets } = train.random(batch, seed, 0);
  for (const t of [ids, targets]) t.persist();
  const oneStep = (ids: Tensor, targets: Tensor) => {
    const loss = model.loss(ids, targets);
    backward(loss);
    clipGradNorm(optimizer, clip);
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  };
  using captured = new CapturedStep(oneStep, optimizer, options.capture);
  const wasTraining = model.training;
  model.train();
  const result: FitResult = { losses: [], valid: [], stepMs: [], captured: captured.isCaptured };
  try {
    for (let step = 0; step < steps; step++) {
      const began = performance.now();
      const loss = await lossOf(step);
      result.losses.push(loss);
      result.stepMs.push(performance.now() - began);
      options.onStep?.(progress(step + 1, loss));
      if (validate && (step + 1) % validate.every === 0) {
        const valid = await evaluate(model, validate.windows, { batch, most: validate.most ?? 32 });
        result.valid.push({ step: step + 1, loss: valid });
      }
    }
  } finally {
    optimizer.zeroGrad();
    model.train(wasTraining);
    for (const t of [ids, targets]) t.dispose();
  }
  return { ...result, captured: captured.isCaptured };

  async function lossOf(step: number): Promise<number> {
    using _ = scope();
    train.refill({ ids, targets }, train.draw(batch, seed, step));
    optimizer.lr = lr * factor(step);
    return captured.run(ids, targets).item();
  }

  function progress(step: number, loss: number): FitProgress {
    const seconds = result.stepMs.reduce((a, b) => a + b, 0) / 1000;
    return {
      step,
      steps,
      loss,
      tokensPerSecond: (step * batch * train.length) / seconds,
      secondsLeft: (seconds / step) * (steps - step),
    };
  }
}
