// The step of a training loop: replayed where it can be captured, eager where not, with the same bits.
import { CaptureError } from "../gpu/errors.ts";
import type { Optimizer } from "../nn/optim/optimizer.ts";
import { type Captured, capture } from "../tensor/capture.ts";
import { randomState, setRandomState } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A step of training: from a batch to its loss. */
type Step = (ids: Tensor, targets: Tensor) => Tensor;

export class CapturedStep implements Disposable {
  private captured: Captured<[Tensor, Tensor], Tensor> | null;

  /**
   * @param fn  moves the optimiser by one step; `capture` says what it must not do to be captured
   * @param must  true: throw where it cannot be captured; false: do not try; absent: run it eagerly then
   */
  constructor(
    private readonly fn: Step,
    private readonly optimizer: Optimizer,
    private readonly must?: boolean,
  ) {
    this.captured = must === false ? null : capture(fn);
  }

  /** Whether steps are replayed from the third on. */
  get isCaptured(): boolean {
    return this.captured !== null;
  }

  /** One step. The tensors must be the same ones in each call. */
  run(ids: Tensor, targets: Tensor): Tensor {
    if (!this.captured) return this.fn(ids, targets);
    const random = randomState();
    const { steps } = this.optimizer;
    try {
      return this.captured(ids, targets);
    } catch (error) {
      // Once the optimiser has moved there is no way back.
      const canRepeat = error instanceof CaptureError && this.optimizer.steps === steps;
      if (!canRepeat || this.must) throw error;
    }
    this.dispose();
    setRandomState(random);
    this.optimizer.zeroGrad();
    return this.fn(ids, targets);
  }

  dispose(): void {
    this.captured?.dispose();
    this.captured = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
