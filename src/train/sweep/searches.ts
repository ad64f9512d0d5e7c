// The searches by name, with what each needs of the options.
import { checkWord } from "../../kernels/check.ts";
import { Asha } from "./asha.ts";
import { gridSettings, Listed, oneAtATime, randomSearch } from "./listed.ts";
import { checkInteger, type Search } from "./search.ts";
import type { Settings, Space } from "./space.ts";
import { Tpe } from "./tpe.ts";

export const SEARCHES = ["one-at-a-time", "grid", "random", "asha", "tpe"] as const;

export type SearchName = (typeof SEARCHES)[number];

export interface SearchOptions {
  /** Which search. */
  search: SearchName;
  /** Trials of random, asha and tpe; at most so many of the others. */
  trials?: number | undefined;
  seed?: number | undefined;
  /** Trials at once: what tpe learns from changes after so many. */
  round?: number | undefined;
  /** Steps of a whole trial, of the first rung, and how many times as many the next has: for asha. */
  steps?: number | undefined;
  min_steps?: number | undefined;
  eta?: number | undefined;
  /** The settings to begin with. */
  start?: Settings | undefined;
}

const DEFAULT_TRIALS = 20;

/**
 * The search of that name over a space.
 * @throws ValueError for an unknown name and for counts out of range
 */
export function searchOf(space: Space, options: SearchOptions): Search {
  const { search, trials = DEFAULT_TRIALS, seed = 0, round = 1, start } = options;
  checkWord("sweep", "search", search, SEARCHES);
  checkInteger("trials", trials, 1);
  checkInteger("seed", seed, 0);
  const limit = options.trials ?? Infinity;
  if (search === "one-at-a-time") return new Listed(oneAtATime(space, start).slice(0, limit));
  if (search === "grid") return new Listed(gridSettings(space).slice(0, limit));
  if (search === "random") return randomSearch(space, { trials, seed, start });
  if (search === "tpe") return new Tpe(space, { trials, seed, round, start });
  const { steps = 0, min_steps: minSteps, eta } = options;
  const rungs = { ...(minSteps && { minSteps }), ...(eta && { eta }) };
  return new Asha(space, { trials, seed, steps, start, ...rungs });
}
