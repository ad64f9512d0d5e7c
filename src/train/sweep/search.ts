// What every search has in common: it is asked for jobs and told what came of them.
import { ValueError } from "../../gpu/errors.ts";
import type { Settings, Space } from "./space.ts";
import { holds } from "./space.ts";

/** One piece of work: a trial, to be run or to be gone on with. */
export interface Job {
  /** Number of the trial, from 0 on. */
  trial: number;
  settings: Settings;
  /** Steps after which it pauses; null: it runs to its end. */
  steps: number | null;
}

/** What came of a job. */
export interface Outcome {
  trial: number;
  steps: number | null;
  /** The lower the better; Infinity where the trial failed. */
  objective: number;
}

/**
 * A search is a pure function of what it was told: asked and told the same in the same order, it asks for
 * the same jobs. A sweep that goes on is therefore played again from its beginning.
 */
export interface Search {
  /** How many jobs there will be; about, where that hangs on outcomes. */
  readonly count: number;
  /** Jobs that may run at once, at most so many; none where the search waits for outcomes or is over. */
  ask(most: number): Job[];
  tell(outcome: Outcome): void;
}

/** What a range may begin with: the settings of the config, where the space holds them. */
export function startOf(space: Space, start: Settings | undefined): Settings | null {
  if (!start) return null;
  const all = [...space].every(([path, dimension]) => holds(dimension, start[path]));
  return all ? Object.fromEntries([...space.keys()].map((path) => [path, start[path]!])) : null;
}

/** Throws ValueError unless n is an integer of at least `least`. */
export function checkInteger(arg: string, n: number, least: number): void {
  if (Number.isSafeInteger(n) && n >= least) return;
  const expected = `an integer of at least ${least}`;
  throw new ValueError({ op: "sweep", arg, expected, got: `${n}` });
}
