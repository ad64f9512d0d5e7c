// Searches that know all trials beforehand: one at a time, grid, random.
import { Draws } from "./draws.ts";
import type { Job, Search } from "./search.ts";
import { checkInteger, startOf } from "./search.ts";
import { drawValue, gridValues, type Settings, type Space, same, type Value } from "./space.ts";

/** Trials out of a list, each run to its end. */
export class Listed implements Search {
  private next = 0;

  constructor(readonly list: readonly Settings[]) {}

  get count(): number {
    return this.list.length;
  }

  ask(most: number): Job[] {
    const jobs = this.list.slice(this.next, this.next + most).map((settings, i) => {
      return { trial: this.next + i, settings, steps: null };
    });
    this.next += jobs.length;
    return jobs;
  }

  tell(): void {}
}

/** Every combination of the values; the last setting changes fastest. */
export function gridSettings(space: Space): Settings[] {
  let all: Settings[] = [{}];
  for (const [path, dimension] of space) {
    const values = gridValues(dimension);
    all = all.flatMap((settings) => values.map((value) => ({ ...settings, [path]: value })));
  }
  return all;
}

/**
 * The start, then every other value of each setting with the others as they start.
 * @param start  by path; what it lacks starts in the middle of its values
 */
export function oneAtATime(space: Space, start: Readonly<Record<string, Value | undefined>> = {}) {
  const centre: Record<string, Value> = {};
  for (const [path, dimension] of space) {
    const values = gridValues(dimension);
    centre[path] = start[path] ?? values[(values.length - 1) >> 1]!;
  }
  const all: Settings[] = [centre];
  for (const [path, dimension] of space) {
    for (const value of gridValues(dimension)) {
      if (!same(value, centre[path])) all.push({ ...centre, [path]: value });
    }
  }
  return all;
}

/** Settings of a trial, drawn evenly from the space: a pure function of seed and trial. */
export function randomSettings(space: Space, seed: number, trial: number): Settings {
  const draws = new Draws(seed, trial);
  const values = [...space].map(([path, dimension]) => [path, drawValue(dimension, draws)]);
  return Object.fromEntries(values);
}

export interface RandomOptions {
  trials: number;
  seed?: number;
  /** The first trial's settings, where the space holds them. */
  start?: Settings | undefined;
}

/** Random search (Bergstra & Bengio 2012). */
export function randomSearch(space: Space, { trials, seed = 0, start }: RandomOptions): Listed {
  checkInteger("trials", trials, 1);
  const first = startOf(space, start);
  const list = Array.from({ length: trials }, (_, trial) =>
    trial === 0 && first ? first : randomSettings(space, seed, trial),
  );
  return new Listed(list);
}
