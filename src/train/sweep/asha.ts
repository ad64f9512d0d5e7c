// ASHA: many trials begin, the better ones go on.
import { randomSettings } from "./listed.ts";
import { checkInteger, type Job, type Outcome, type Search, startOf } from "./search.ts";
import type { Settings, Space } from "./space.ts";

export interface AshaOptions {
  /** Trials that begin. */
  trials: number;
  /** Steps of a whole trial. */
  steps: number;
  /** Steps before the first look. Default: ⌈steps / eta²⌉. */
  minSteps?: number;
  /** Of so many trials of a rung one goes on to the next, which has so many times the steps. Default 3. */
  eta?: number;
  seed?: number;
  /** The first trial's settings, where the space holds them. */
  start?: Settings | undefined;
}

interface Rung {
  steps: number;
  objectives: Map<number, number>;
  promoted: Set<number>;
}

/**
 * Asynchronous successive halving. Trials are drawn evenly and pause at rungs of minSteps·etaᵏ steps. Whoever
 * asks gets the best trial of the highest rung whose best 1/eta are not all promoted yet, to go on to the
 * next rung, and otherwise a new one. Once all have begun and wait, the best one of the highest rung goes on
 * to its end, so that at least one trial is whole.
 * @throws ValueError for counts out of range
 * Source: Li et al. 2020, "A system for massively parallel hyperparameter tuning", arXiv 1810.05934.
 */
export class Asha implements Search {
  private readonly rungs: Rung[] = [];
  private readonly settings: Settings[] = [];
  private running = 0;
  private readonly eta: number;

  constructor(
    private readonly space: Space,
    private readonly options: AshaOptions,
  ) {
    const { trials, steps, eta = 3 } = options;
    checkInteger("trials", trials, 1);
    checkInteger("steps", steps, 1);
    checkInteger("eta", eta, 2);
    const { minSteps = Math.ceil(steps / eta ** 2) } = options;
    checkInteger("min_steps", minSteps, 1);
    this.eta = eta;
    for (let at = minSteps; at < steps; at *= eta) this.rungs.push(rung(at));
    this.rungs.push(rung(steps));
  }

  get count(): number {
    const { rungs, eta, options } = this;
    const reaching = rungs.map((_, k) => Math.max(1, Math.floor(options.trials / eta ** k)));
    return reaching.reduce((a, b) => a + b);
  }

  ask(most: number): Job[] {
    const jobs: Job[] = [];
    while (jobs.length < most) {
      const job = this.promotion() ?? this.fresh() ?? (this.running === 0 ? this.last() : null);
      if (!job) break;
      this.running += 1;
      jobs.push(job);
    }
    return jobs;
  }

  tell({ trial, steps, objective }: Outcome): void {
    const at = this.rungs.find((r) => r.steps === steps);
    this.running -= 1;
    at!.objectives.set(trial, Number.isFinite(objective) ? objective : Infinity);
  }

  private promotion(): Job | null {
    for (let k = this.rungs.length - 2; k >= 0; k--) {
      const { objectives, promoted } = this.rungs[k]!;
      const best = ranked(objectives).slice(0, Math.floor(objectives.size / this.eta));
      const trial = best.find((t) => !promoted.has(t) && objectives.get(t)! < Infinity);
      if (trial !== undefined) return this.promoted(k, trial);
    }
    return null;
  }

  private fresh(): Job | null {
    const { space, options, settings } = this;
    const trial = settings.length;
    if (trial >= options.trials) return null;
    const first = trial === 0 ? startOf(space, options.start) : null;
    settings.push(first ?? randomSettings(space, options.seed ?? 0, trial));
    return { trial, settings: settings[trial]!, steps: this.rungs[0]!.steps };
  }

  /** Nothing is left to do but to bring the best trial of the highest rung to its end. */
  private last(): Job | null {
    const top = this.rungs.length - 1;
    for (let k = top; k >= 0; k--) {
      const { objectives, promoted } = this.rungs[k]!;
      const [best] = ranked(objectives).filter(
        (t) => !promoted.has(t) && objectives.get(t)! < Infinity,
      );
      if (best !== undefined) return k === top ? null : this.promoted(k, best);
    }
    return null;
  }

  private promoted(k: number, trial: number): Job {
    this.rungs[k]!.promoted.add(trial);
    return { trial, settings: this.settings[trial]!, steps: this.rungs[k + 1]!.steps };
  }
}

function rung(steps: number): Rung {
  return { steps, objectives: new Map(), promoted: new Set() };
}

/** Trials from the lowest objective on; of equal ones the earlier first. */
function ranked(objectives: ReadonlyMap<number, number>): number[] {
  const order = (a: number, b: number) => (a === b ? 0 : a < b ? -1 : 1);
  return [...objectives.keys()].sort(
    (a, b) => order(objectives.get(a)!, objectives.get(b)!) || a - b,
  );
}
