// Seat: where a run computes: alone in its model, or on one of several adapters over one base.
import type { CausalLM } from "../nn/causal_lm.ts";
import type { Optimizer } from "../nn/optim/index.ts";
import { type RandomState, randomState, setRandomState } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { modelFingerprint } from "./fingerprint.ts";
import type { Rows } from "./rows.ts";
import { type StepFacts, type StepSizes, TrainStep } from "./train_step.ts";

/** One optimiser step, in two halves: gradients, then the update or nothing. */
export interface Step extends Disposable {
  /** Whether steps are replayed from the third on. */
  readonly isCaptured: boolean;
  /**
   * Computes the gradients of accumulate · batch rows; neither parameters nor moments move.
   * @param meanwhile  called while the GPU works
   */
  compute(rows: Rows, meanwhile?: () => void): Promise<StepFacts>;
  /** Moves the parameters along the gradients, and clears these. */
  update(): void;
  /** Forgets the gradients. */
  skip(): void;
}

/** Where the random numbers of a run stand. */
export interface RandomSource {
  now(): RandomState;
  goOnFrom(state: RandomState): void;
}

export interface Seat {
  readonly random: RandomSource;
  step(optimizer: Optimizer, sizes: StepSizes): Step;
  /** What is trained, by the names that it has in a model of its own. */
  named(trained: readonly Tensor[]): Map<string, Tensor>;
  /** Of a model of its own; see `modelFingerprint`. */
  fingerprint(trained: ReadonlySet<Tensor>): Promise<string>;
  /** Has the model look at something with what this run trains, and nothing else. */
  look<T>(fn: () => Promise<T>): Promise<T>;
}

/** A model for one run. */
export function seatAlone(model: CausalLM): Seat {
  return {
    random: { now: randomState, goOnFrom: setRandomState },
    step: (optimizer, sizes) => new TrainStep(model, optimizer, sizes),
    named: (trained) => namesOf(model, trained),
    fingerprint: (trained) => modelFingerprint(model, trained),
    look: (fn) => fn(),
  };
}

/** What is trained by its name in the model; what the model does not name by its number. */
export function namesOf(model: CausalLM, trained: readonly Tensor[]): Map<string, Tensor> {
  const names = new Map(Array.from(model.namedParameters(), ([name, p]) => [p, name]));
  return new Map([...new Set(trained)].map((p, i) => [names.get(p) ?? `${i}`, p]));
}
