// fit: the training loop. Windows in, one optimiser step each, with schedule, clipping, validation.
import { backward } from "../autograd/backward.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { AdamW, clipGradNorm, cosineSchedule } from "../nn/optim/index.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
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
}

/**
 * Trains a model on windows of text. Its mode is as before afterwards, also where something throws.
 * @throws ValueError where steps or batch is no positive integer, and for what AdamW refuses
 */
export async function fit(model: CausalLM, options: FitOptions): Promise<FitResult> {
  const { train, steps, batch, lr, warmup = 0, clip = 1, seed = 0, validate } = options;
  const parameters = options.parameters ?? model.trainableParameters();
  const factor = cosineSchedule(warmup, steps);
  checkCount("fit", "steps", steps);
  checkCount("fit", "batch", batch);
  using optimizer = new AdamW([...parameters], { lr, weightDecay: options.weightDecay ?? 0 });
  const wasTraining = model.training;
  model.train();
  const result: FitResult = { losses: [], valid: [], stepMs: [] };
  try {
    for (let step = 0; step < steps; step++) {
      const began = performance.now();
      const loss = await oneStep(step);
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
  }
  return result;

  async function oneStep(step: number): Promise<number> {
    using _ = scope();
    const { ids, targets } = train.random(batch, seed, step);
    const loss = model.loss(ids, targets);
    backward(loss);
    clipGradNorm(optimizer, clip);
    optimizer.lr = lr * factor(step);
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
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
