// TrainStep: one optimiser step, in two halves: gradients of some micro-batches, then the update.
import { backward } from "../autograd/backward.ts";
import { noGrad } from "../autograd/graph.ts";
import { add, mul } from "../autograd/ops/index.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { clipGradNorm, type Optimizer } from "../nn/optim/index.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CapturedStep } from "./captured_step.ts";
import { MicroBatches } from "./micro_batches.ts";
import type { Rows } from "./rows.ts";
import type { Step } from "./seat.ts";

export interface StepSizes {
  /** Rows per micro-batch. */
  batch: number;
  /** Micro-batches per step. */
  accumulate: number;
  /** Tokens per row. */
  length: number;
  /** Largest global norm of the gradients. */
  clip: number;
  /** As in `FitOptions`. */
  capture?: boolean | undefined;
}

/** What the first half of a step found. */
export interface StepFacts {
  loss: number;
  /** Global norm of the gradients before clipping. */
  gradNorm: number;
  /** Its part of the time of a step of several; absent: all of it. */
  ms?: number;
}

/**
 * The loss of a step is the mean over all targets that count in its micro-batches together: each
 * micro-batch's mean weighs as much as it has such targets, L = Σ nᵢ·Lᵢ / Σ nᵢ. (The mean of the means
 * would give a token of a short answer more weight than one of a long answer, and gradients that depend
 * on how the rows are dealt out.)
 *
 * The update is a half of its own so that the host can look at loss and norm before anything moves. It
 * costs no wait: the update is sent together with the next step's first half.
 */
export class TrainStep implements Step {
  /** The first half, by the width of the rows. */
  private readonly halves = new Map<number, GradientHalf>();
  private readonly moving: CapturedStep<void>;

  constructor(
    private readonly model: CausalLM,
    private readonly optimizer: Optimizer,
    private readonly sizes: StepSizes,
  ) {
    const move = () => {
      optimizer.step();
      optimizer.zeroGrad();
    };
    this.moving = new CapturedStep(move, () => {}, sizes.capture !== false);
  }

  get isCaptured(): boolean {
    if (this.halves.size === 0) return this.sizes.capture !== false;
    return [...this.halves.values()].every((half) => half.isCaptured);
  }

  async compute(rows: Rows, meanwhile?: () => void): Promise<StepFacts> {
    using _ = scope();
    const { loss, norm } = this.halfOf(rows).run(rows);
    const found = Promise.all([loss.item(), norm.item()]); // what was asked for is under way now
    meanwhile?.();
    const [l, n] = await found;
    return { loss: l, gradNorm: n };
  }

  update(): void {
    this.moving.run();
  }

  skip(): void {
    this.optimizer.zeroGrad();
  }

  dispose(): void {
    for (const half of this.halves.values()) half.dispose();
    this.moving.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private halfOf({ width = this.sizes.length }: Rows): GradientHalf {
    const known = this.halves.get(width);
    if (known) return known;
    const half = new GradientHalf(this.model, this.optimizer, { ...this.sizes, length: width });
    this.halves.set(width, half);
    return half;
  }
}

/** The first half of a step for rows of one width: the tensors that hold them, and what is captured on these. */
class GradientHalf {
  private readonly micro: MicroBatches;
  private readonly gradients: CapturedStep<{ loss: Tensor; norm: Tensor }>;

  constructor(
    private readonly model: CausalLM,
    private readonly optimizer: Optimizer,
    private readonly sizes: StepSizes,
  ) {
    this.micro = new MicroBatches(1, sizes);
    const forget = () => optimizer.zeroGrad();
    this.gradients = new CapturedStep(() => this.backward(), forget, sizes.capture);
  }

  get isCaptured(): boolean {
    return this.gradients.isCaptured;
  }

  run(rows: Rows): { loss: Tensor; norm: Tensor } {
    this.micro.fill([rows]);
    return this.gradients.run();
  }

  dispose(): void {
    this.gradients.dispose();
    this.micro.dispose();
  }

  private backward(): { loss: Tensor; norm: Tensor } {
    let total: Tensor | null = null;
    const { list } = this.micro;
    for (const { ids, targets, shares, starts } of list) {
      const mean = this.model.loss(ids, targets, starts && { starts });
      const loss = list.length > 1 ? mul(mean, shares[0]!) : mean;
      backward(loss);
      const before: Tensor | null = total;
      total = before ? noGrad(() => add(before, loss)) : loss;
    }
    return { loss: total!, norm: clipGradNorm(this.optimizer, this.sizes.clip) };
  }
}
