// Adapters of several runs over one base, trained in one step, each as it would be alone.
import type { LoraConfig } from "../lora/config.ts";
import { addLora, type Lora } from "../lora/lora.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { manualSeed } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { modelFingerprint } from "./fingerprint.ts";
import { Run } from "./fit.ts";
import { type FitOptions, type FitResult, settingsOf } from "./fit_options.ts";
import { namesOf, type Seat } from "./seat.ts";
import { SideBySideStep } from "./side_by_side_step.ts";

/** An adapter as it is made. */
export interface AdapterOf {
  config: LoraConfig;
  /** Of its first values, and of its dropout. */
  seed: number;
}

/** What an adapter is in a model of its own: its checkpoints are those of a run alone. */
interface Alone {
  /** Of its parameters, in their order. */
  names: string[];
  fingerprint: string;
  count: ReturnType<Lora["count"]>;
}

export class SideBySide implements Disposable {
  private constructor(
    private readonly model: CausalLM,
    /** All of them; active are those that train. */
    readonly lora: Lora,
    private readonly alone: ReadonlyMap<string, Alone>,
  ) {}

  /**
   * Puts adapters into a model that has none. `dispose` takes them out.
   * @param adapters  by name; each only adds to layers
   * @throws ValueError where one does not fit; nothing is changed then
   */
  static async add(model: CausalLM, adapters: ReadonlyMap<string, AdapterOf>): Promise<SideBySide> {
    const alone = new Map<string, Alone>();
    for (const [name, { config }] of adapters) alone.set(name, await lookedAt(model, config));
    let lora: Lora | null = null;
    for (const [name, { config, seed }] of adapters) {
      manualSeed(seed);
      if (lora) lora.addAdapter(name, config);
      else lora = addLora(model, config, name);
    }
    return new SideBySide(model, lora!, alone);
  }

  /** As `lora.count()` of the adapter alone. */
  count(adapter: string): Alone["count"] {
    return this.alone.get(adapter)!.count;
  }

  /**
   * Trains adapters, each by its options as `fit` would alone, with the same losses, weights and checkpoints. The time of
   * a step is dealt out among the runs that have one. Afterwards no adapter is active.
   * @param options  by adapter; batch, accumulate and the rows' length are the same in all
   * @returns of each what `fit` returns, or what it throws
   */
  async fit(options: ReadonlyMap<string, FitOptions>): Promise<Map<string, FitResult | Error>> {
    const { model, lora } = this;
    const names = [...options.keys()];
    const step = new SideBySideStep(model, lora, names);
    const { training, gradientCheckpointing } = model;
    model.train();
    model.gradientCheckpointing = false;
    lora.setAdapter(names);
    const runs: Promise<FitResult | Error>[] = [];
    try {
      for (const [name, own] of options) {
        await step.turn(name, () => void runs.push(this.one(name, own, step, names)));
      }
      await step.toTheEnd();
    } finally {
      lora.setAdapter([]);
      model.train(training);
      model.gradientCheckpointing = gradientCheckpointing;
    }
    const results = await Promise.all(runs);
    return new Map(names.map((name, i) => [name, results[i]!]));
  }

  private async one(
    name: string,
    options: FitOptions,
    step: SideBySideStep,
    all: readonly string[],
  ): Promise<FitResult | Error> {
    const { model, lora } = this;
    try {
      const own = { parameters: lora.parameters(name), ...options };
      using run = new Run(model, own, settingsOf(own), this.seatOf(name, step, all));
      return await run.toTheEnd();
    } catch (error) {
      return error as Error;
    } finally {
      step.leave(name);
    }
  }

  dispose(): void {
    this.lora.undo();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private seatOf(name: string, step: SideBySideStep, all: readonly string[]): Seat {
    const { lora } = this;
    const { names, fingerprint } = this.alone.get(name)!;
    const stream = lora.stream(name);
    return {
      random: {
        now: () => ({ ...stream }),
        goOnFrom: (state) => void Object.assign(stream, state),
      },
      step: (optimizer, sizes) => step.of(name, optimizer, sizes),
      named: (trained) => {
        const known = new Map(lora.parameters(name).map((p, i) => [p, names[i]!]));
        return new Map([...new Set(trained)].map((p, i) => [known.get(p) ?? `${i}`, p]));
      },
      fingerprint: async () => fingerprint,
      look: async (fn) => {
        lora.setAdapter(name);
        try {
          return await fn();
        } finally {
          lora.setAdapter(all);
        }
      },
    };
  }
}

/** Puts an adapter in alone, and takes it out again. */
async function lookedAt(model: CausalLM, config: LoraConfig): Promise<Alone> {
  const lora = addLora(model, config);
  try {
    const trained: Tensor[] = lora.parameters();
    const names = [...namesOf(model, trained).keys()];
    const fingerprint = await modelFingerprint(model, new Set(trained));
    return { names, fingerprint, count: lora.count() };
  } finally {
    lora.undo();
  }
}
