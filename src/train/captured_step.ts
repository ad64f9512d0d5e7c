// A step of training: replayed where it can be captured, eager where not, with the same bits.
import { CaptureError } from "../gpu/errors.ts";
import { type Captured, type CaptureResult, capture } from "../tensor/capture.ts";
import { randomState, setRandomState } from "../tensor/philox.ts";

export class CapturedStep<R extends CaptureResult> implements Disposable {
  private captured: Captured<[], R> | null;

  /**
   * @param fn  the step; `capture` says what it must not do to be captured
   * @param undo  takes back what `fn` did before it threw, but for random numbers
   * @param must  true: throw where it cannot be captured; false: do not try; absent: run it eagerly then
   */
  constructor(
    private readonly fn: () => R,
    private readonly undo: () => void,
    private readonly must?: boolean,
  ) {
    this.captured = must === false ? null : capture(fn);
  }

  /** Whether steps are replayed from the third on. */
  get isCaptured(): boolean {
    return this.captured !== null;
  }

  /** One step. */
  run(): R {
    if (!this.captured) return this.fn();
    const random = randomState();
    try {
      return this.captured();
    } catch (error) {
      if (!(error instanceof CaptureError) || this.must) throw error;
    }
    this.dispose();
    setRandomState(random);
    this.undo();
    return this.fn();
  }

  dispose(): void {
    this.captured?.dispose();
    this.captured = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
