// TPE: a search that asks where good trials are likelier than bad ones.
import { Draws } from "./draws.ts";
import { randomSettings } from "./listed.ts";
import { densityOf } from "./parzen.ts";
import { checkInteger, type Job, type Outcome, type Search, startOf } from "./search.ts";
import type { Settings, Space, Value } from "./space.ts";

export interface TpeOptions {
  trials: number;
  seed?: number;
  /** Trials drawn evenly before the first that learns from others. Default: 10, at most half of all. */
  startup?: number;
  /** Trials that are asked for at once and learn from the same ones before them. Default 1. */
  round?: number;
  /** Values drawn for each setting, of which the most promising is taken. Default 24. */
  candidates?: number;
  /** The first trial's settings, where the space holds them. */
  start?: Settings | undefined;
}

/**
 * Tree-structured Parzen estimator. Of n finished trials the best ⌈√n/2⌉ give each setting a density l, the
 * others a density g; a new trial takes the value with the largest l/g of some that are drawn from l. Trials that
 * are under way count among the others, so that those of one round differ.
 * @throws ValueError for counts out of range
 * Source: Bergstra, Bardenet, Bengio & Kégl 2011, "Algorithms for hyper-parameter optimization", NeurIPS 24.
 */
export class Tpe implements Search {
  private readonly told = new Map<number, number>();
  private readonly settings: Settings[] = [];
  private readonly options: Required<Omit<TpeOptions, "start">>;
  private readonly start: Settings | null;

  constructor(
    private readonly space: Space,
    { trials, seed = 0, startup, round = 1, candidates = 24, start }: TpeOptions,
  ) {
    for (const [arg, n] of Object.entries({ trials, round, candidates })) checkInteger(arg, n, 1);
    const first = startup ?? Math.max(1, Math.min(10, trials >> 1));
    checkInteger("startup", first, 1);
    this.options = { trials, seed, startup: first, round, candidates };
    this.start = startOf(space, start);
  }

  get count(): number {
    return this.options.trials;
  }

  ask(most: number): Job[] {
    const jobs: Job[] = [];
    while (jobs.length < most) {
      const trial = this.settings.length;
      const known = this.roundOf(trial);
      if (trial >= this.options.trials || !this.knows(known)) break;
      const settings = this.settingsOf(trial, known);
      this.settings.push(settings);
      jobs.push({ trial, settings, steps: null });
    }
    return jobs;
  }

  tell({ trial, objective }: Outcome): void {
    this.told.set(trial, Number.isFinite(objective) ? objective : Infinity);
  }

  /** How many trials a trial learns from: those before its round. */
  private roundOf(trial: number): number {
    const { startup, round } = this.options;
    return trial < startup ? 0 : startup + Math.floor((trial - startup) / round) * round;
  }

  private knows(count: number): boolean {
    for (let trial = 0; trial < count; trial++) if (!this.told.has(trial)) return false;
    return true;
  }

  private settingsOf(trial: number, known: number): Settings {
    const { space, options, start } = this;
    if (trial === 0 && start) return start;
    if (known === 0) return randomSettings(space, options.seed, trial);
    const order = Array.from({ length: known }, (_, i) => i).sort(
      (a, b) => compare(this.told.get(a)!, this.told.get(b)!) || a - b,
    );
    const good = Math.ceil(Math.sqrt(known) / 2);
    const pending = this.settings.slice(known, trial);
    const draws = new Draws(options.seed, trial);
    const chosen: Record<string, Value> = {};
    for (const [path, dimension] of space) {
      const values = order.map((i) => this.settings[i]![path]!);
      const l = densityOf(dimension, values.slice(0, good));
      const g = densityOf(dimension, [...values.slice(good), ...pending.map((p) => p[path]!)]);
      let best = Number.NEGATIVE_INFINITY;
      for (let i = 0; i < options.candidates; i++) {
        const value = l.draw(draws);
        const gain = l.logAt(value) - g.logAt(value);
        if (gain > best) [best, chosen[path]] = [gain, value];
      }
    }
    return chosen;
  }
}

const compare = (a: number, b: number) => (a === b ? 0 : a < b ? -1 : 1);
