// SideBySideStep: the steps of several runs as one, each on its own adapter over the same base.
import { backward } from "../autograd/backward.ts";
import { noGrad } from "../autograd/graph.ts";
import { add, concat, mul, reshape } from "../autograd/ops/index.ts";
import type { Lora } from "../lora/lora.ts";
import { sideBySideLoss } from "../lora/side_by_side.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { clipGradNorm, type Optimizer } from "../nn/optim/index.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CapturedStep } from "./captured_step.ts";
import { MicroBatches } from "./micro_batches.ts";
import type { Rows } from "./rows.ts";
import type { Step } from "./seat.ts";
import type { StepFacts, StepSizes } from "./train_step.ts";

/** A run that waits for its gradients. */
interface Waiting {
  rows: Rows;
  meanwhile: (() => void) | undefined;
  done: (facts: StepFacts) => void;
  failed: (error: unknown) => void;
}

/** An adapter that is trained, and how. */
interface Trained {
  adapter: string;
  optimizer: Optimizer;
  sizes: StepSizes;
}

/**
 * The runs take turns: of each step every run gets what `TrainStep` would give it alone, and does what it does with
 * that until it asks for the next step, or leaves; then the next run does. So no two of them use the model at once.
 */
export class SideBySideStep {
  /** Adapters of the runs that are there, in their order in the batch. */
  private readonly there: Set<string>;
  private readonly waiting = new Map<string, Waiting>();
  private readonly trained = new Map<string, Trained>();
  /** Who waits for a run to end its turn. */
  private readonly turns = new Map<string, () => void>();
  private together: Together | null = null;

  constructor(
    private readonly model: CausalLM,
    private readonly lora: Lora,
    adapters: readonly string[],
  ) {
    this.there = new Set(adapters);
  }

  /** The step of one run. All have the same batch, accumulate and length. */
  of(adapter: string, optimizer: Optimizer, sizes: StepSizes): Step {
    this.trained.set(adapter, { adapter, optimizer, sizes });
    const move = () => {
      optimizer.step();
      optimizer.zeroGrad();
    };
    const moving = new CapturedStep(move, () => {}, sizes.capture !== false);
    const isCaptured = () => this.together?.isCaptured ?? false;
    return {
      get isCaptured() {
        return isCaptured();
      },
      compute: (rows, meanwhile) =>
        new Promise((done, failed) => {
          this.waiting.set(adapter, { rows, meanwhile, done, failed });
          this.turns.get(adapter)?.();
        }),
      update: () => moving.run(),
      skip: () => optimizer.zeroGrad(),
      [Symbol.dispose]: () => moving.dispose(),
    };
  }

  /** A run has ended; the others go on without it. */
  leave(adapter: string): void {
    this.there.delete(adapter);
    this.turns.get(adapter)?.();
  }

  /** Has a run do something, and waits until it asks for a step or leaves. */
  turn(adapter: string, begin: () => void): Promise<void> {
    return new Promise((ended) => {
      this.turns.set(adapter, ended);
      begin();
    });
  }

  /** Computes steps, each when all runs that are there have asked for it, until none is there. */
  async toTheEnd(): Promise<void> {
    try {
      while (this.there.size > 0) await this.oneForAll();
    } finally {
      this.together?.dispose();
    }
  }

  private async oneForAll(): Promise<void> {
    const order = [...this.there];
    const runs = order.map((adapter) => this.waiting.get(adapter)!);
    this.waiting.clear();
    const found = await this.computed(order, runs).catch((error: unknown) => ({ error }));
    for (const [i, { done, failed }] of runs.entries()) {
      const tell = () => ("error" in found ? failed(found.error) : done(found[i]!));
      await this.turn(order[i]!, tell);
    }
  }

  private async computed(order: readonly string[], runs: readonly Waiting[]): Promise<StepFacts[]> {
    const began = performance.now();
    if (!this.together?.isOf(order)) {
      this.together?.dispose();
      const trained = order.map((adapter) => this.trained.get(adapter)!);
      this.together = new Together(this.model, this.lora, trained);
    }
    const values = await this.together.run(runs);
    const n = runs.length;
    const ms = (performance.now() - began) / n;
    return runs.map((_, i) => ({ loss: values[i]!, gradNorm: values[n + i]!, ms }));
  }
}

/** The first half of the step of a certain set of runs. */
class Together {
  private readonly names: readonly string[];
  private readonly micro: MicroBatches;
  private readonly gradients: CapturedStep<{ facts: Tensor }>;

  constructor(
    private readonly model: CausalLM,
    private readonly lora: Lora,
    private readonly trained: readonly Trained[],
  ) {
    this.names = trained.map(({ adapter }) => adapter);
    const [{ sizes }] = trained as [Trained];
    this.micro = new MicroBatches(trained.length, sizes);
    const forget = () => trained.forEach(({ optimizer }) => void optimizer.zeroGrad());
    this.gradients = new CapturedStep(() => this.backward(), forget, sizes.capture);
  }

  get isCaptured(): boolean {
    return this.gradients.isCaptured;
  }

  isOf(order: readonly string[]): boolean {
    return order.length === this.names.length && order.every((name, i) => name === this.names[i]);
  }

  /** The losses of all, and then the norms of their gradients. */
  async run(runs: readonly Waiting[]): Promise<ArrayLike<number>> {
    using _ = scope();
    this.micro.fill(runs.map(({ rows }) => rows));
    const { facts } = this.gradients.run();
    const found = facts.data(); // what was asked for is under way now
    for (const { meanwhile } of runs) meanwhile?.();
    return (await found) as Float32Array;
  }

  dispose(): void {
    this.gradients.dispose();
    this.micro.dispose();
  }

  private backward(): { facts: Tensor } {
    const { model, lora, names, trained } = this;
    const { batch } = trained[0]!.sizes;
    const rows = names.flatMap((name) => Array<string>(batch).fill(name));
    const { list } = this.micro;
    let losses: Tensor[] = [];
    for (const { ids, targets, shares, starts } of list) {
      const layout = starts && { starts };
      const means = [...sideBySideLoss(lora, model, ids, targets, rows, layout).losses.values()];
      const parts = list.length > 1 ? means.map((mean, i) => mul(mean, shares[i]!)) : means;
      backward(parts.reduce((a, b) => add(a, b)));
      const before = losses;
      losses = noGrad(() => parts.map((part, i) => (before[i] ? add(before[i], part) : part)));
    }
    const norms = trained.map(({ optimizer, sizes }) => clipGradNorm(optimizer, sizes.clip));
    return {
      facts: noGrad(() =>
        concat(
          [...losses, ...norms].map((t) => reshape(t, [1])),
          0,
        ),
      ),
    };
  }
}
