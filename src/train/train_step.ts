// TrainStep: one optimiser step, in two halves: gradients of some micro-batches, then the update.
import { backward } from "../autograd/backward.ts";
import { noGrad } from "../autograd/graph.ts";
import { add, mul } from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { clipGradNorm, type Optimizer } from "../nn/optim/index.ts";
import { ones, zeros } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CapturedStep } from "./captured_step.ts";
import { countedTargets, type Rows } from "./rows.ts";

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
}

interface MicroBatch {
  ids: Tensor;
  targets: Tensor;
  /** Its share of the step's counted targets, []. */
  share: Tensor;
  /** Where the texts of packed rows begin. */
  starts?: Tensor;
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
export class TrainStep implements Disposable {
  private readonly micro: MicroBatch[];
  private readonly gradients: CapturedStep<{ loss: Tensor; norm: Tensor }>;
  private readonly moving: CapturedStep<void>;
  private isPacked: boolean | null = null;

  constructor(
    private readonly model: CausalLM,
    private readonly optimizer: Optimizer,
    private readonly sizes: StepSizes,
  ) {
    const shape = [sizes.batch, sizes.length];
    this.micro = Array.from({ length: sizes.accumulate }, () => ({
      ids: zeros(shape, "i32").persist(),
      targets: zeros(shape, "i32").persist(),
      share: ones([]).persist(),
    }));
    const forget = () => optimizer.zeroGrad();
    this.gradients = new CapturedStep(() => this.backward(), forget, sizes.capture);
    const move = () => {
      optimizer.step();
      optimizer.zeroGrad();
    };
    this.moving = new CapturedStep(move, () => {}, sizes.capture !== false);
  }

  /** Whether steps are replayed from the third on. */
  get isCaptured(): boolean {
    return this.gradients.isCaptured;
  }

  /**
   * Computes the gradients of accumulate · batch rows; neither parameters nor moments move.
   * @param meanwhile  called while the GPU works
   */
  async compute(rows: Rows, meanwhile?: () => void): Promise<StepFacts> {
    using _ = scope();
    this.fill(rows);
    const { loss, norm } = this.gradients.run();
    const found = Promise.all([loss.item(), norm.item()]); // what was asked for is under way now
    meanwhile?.();
    const [l, n] = await found;
    return { loss: l, gradNorm: n };
  }

  /** Moves the parameters along the gradients, and clears these. */
  update(): void {
    this.moving.run();
  }

  /** Forgets the gradients. */
  skip(): void {
    this.optimizer.zeroGrad();
  }

  dispose(): void {
    this.gradients.dispose();
    this.moving.dispose();
    for (const t of this.micro.flatMap((m) => Object.values(m) as Tensor[])) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private fill({ ids, targets, starts }: Rows): void {
    this.isPacked ??= starts !== undefined;
    if (this.isPacked !== (starts !== undefined)) {
      const got = this.isPacked ? "none" : "some after steps without";
      throw new ValueError({
        op: "fit",
        arg: "starts",
        expected: "given in every step or in none",
        got,
      });
    }
    const n = this.sizes.batch * this.sizes.length;
    const all = countedTargets(targets);
    for (const [i, micro] of this.micro.entries()) {
      const part = targets.subarray(i * n, (i + 1) * n);
      micro.ids.set(ids.subarray(i * n, (i + 1) * n));
      micro.targets.set(part);
      if (starts) {
        micro.starts ??= zeros(micro.ids.shape, "i32").persist();
        micro.starts.set(starts.subarray(i * n, (i + 1) * n));
      }
      if (this.micro.length > 1) micro.share.set([countedTargets(part) / Math.max(1, all)]);
    }
  }

  private backward(): { loss: Tensor; norm: Tensor } {
    let total: Tensor | null = null;
    for (const { ids, targets, share, starts } of this.micro) {
      const mean = this.model.loss(ids, targets, starts && { starts });
      const loss = this.micro.length > 1 ? mul(mean, share) : mean;
      backward(loss);
      const before: Tensor | null = total;
      total = before ? noGrad(() => add(before, loss)) : loss;
    }
    return { loss: total!, norm: clipGradNorm(this.optimizer, this.sizes.clip) };
  }
}
