// SweepConfig: a run's configuration with the space of its settings, and how that is searched.
import { z } from "zod";
import { ValueError } from "../../gpu/errors.ts";
import { DEFAULTS } from "../../lora/config.ts";
import { nearest } from "../../lora/nearest.ts";
import { configError, type Origin } from "../recipe/config_error.ts";
import { type RawConfig, withSettings } from "../recipe/read_config.ts";
import { parsed, resolveConfig } from "../recipe/resolve.ts";
import { allKeys, type FullConfig, schema, type TrainConfig } from "../recipe/schema.ts";
import { SEARCHES } from "./searches.ts";
import { gridValues, readSpace, type Settings, type Space } from "./space.ts";

const COUNT = "a positive integer";
const NOT_NEGATIVE = "a number of at least 0";
const INTEGER = "an integer of at least 0";
const ETA = "an integer of at least 2";
const count = z.int(COUNT).min(1, COUNT);

const section = z.strictObject(
  {
    search: z.enum(SEARCHES, `one of ${SEARCHES.join(", ")}`).default("tpe"),
    /** Trials of random, asha and tpe, default 20; at most so many of the others. */
    trials: count.optional(),
    /** Of what is drawn from the space. The seed of runs is `seed`. */
    seed: z.int(INTEGER).min(0, INTEGER).default(0),
    /** What one nat of forgetting on `data.general` counts against one of validation loss. */
    forgetting_weight: z.number(NOT_NEGATIVE).min(0, NOT_NEGATIVE).default(0),
    /** Most trials that are under way at once. */
    side_by_side: count.default(1),
    /** For asha: steps before the first look, and of how many trials one goes on, with so many times the steps. */
    min_steps: count.optional(),
    eta: z.int(ETA).min(2, ETA).optional(),
  },
  "a section with search, trials, seed and so on",
);

const sweepSchema = schema.extend({
  /** By setting, its values; see `readSpace`. Its key is a path, or its last word where only one path has it. */
  space: z.record(z.string(), z.unknown(), "settings with their values"),
  sweep: section.prefault({}),
});

/** A configuration of a sweep as it is written. */
export type SweepConfig = TrainConfig & Pick<z.input<typeof sweepSchema>, "space" | "sweep">;

type SweepSection = z.output<typeof section>;

/** A sweep that was checked as far as that needs no model and no data. */
export interface SweepPlan {
  /** What all trials have in common. */
  config: FullConfig;
  space: Space;
  /** The space as it was written, by paths. */
  declared: Readonly<Record<string, unknown>>;
  sweep: SweepSection;
  origin: Origin;
}

/** What must be the same in all trials: their losses are compared. */
const FIXED = [
  ...["model", "tokenizer", "output", "resume", "data.valid", "data.general", "data.split_seed"],
  "training.eval_rows",
];

/**
 * Checks a configuration of a sweep, each value of its space included.
 * @param raw  as read from a file, or a `SweepConfig`
 * @throws ConfigError for the first thing that is wrong
 */
export function planSweep(raw: unknown, origin: Origin = {}): SweepPlan {
  const { space: written, sweep, ...rest } = parsed(sweepSchema, raw, origin);
  const config = resolveConfig(rest, origin);
  const declared = Object.fromEntries(
    Object.entries(written).map(([key, values]) => [pathOf(key, origin), values]),
  );
  const twice = Object.keys(written).length - Object.keys(declared).length;
  if (twice > 0) {
    const got = Object.keys(written).join(", ");
    throw configError({ key: "space", expected: "each setting once", got }, origin);
  }
  const plan = { config, space: spaceOf(declared, origin), declared, sweep, origin };
  checkSearch(plan);
  for (const settings of everyValue(plan.space)) trialConfig(plan, settings, origin);
  return plan;
}

/** The configuration of a trial, checked. */
export function trialConfig(
  { config }: Pick<SweepPlan, "config">,
  settings: Settings,
  origin: Origin = {},
): FullConfig {
  return resolveConfig(withSettings(config, settings), inSpace(origin, settings));
}

/** For messages: settings come from the space. */
function inSpace(origin: Origin, settings: Settings): Origin {
  const places = Object.keys(settings).map((path) => [path, "space"] as const);
  return { ...origin, flags: { ...origin.flags, ...Object.fromEntries(places) } };
}

/** Settings in which each value comes once at least: of ranges those of a grid. */
export function* everyValue(space: Space): Generator<Settings> {
  const all = [...space].map(([path, dimension]) => [path, gridValues(dimension)] as const);
  const first = Object.fromEntries(all.map(([path, values]) => [path, values[0]!]));
  yield first;
  for (const [path, values] of all) {
    for (const value of values.slice(1)) yield { ...first, [path]: value };
  }
}

/** Every setting that a run has. */
function knownPaths(): string[] {
  const fields = Object.keys(DEFAULTS).filter((name) => name !== "base_model_name_or_path");
  return [...allKeys().filter((path) => path !== "lora"), ...fields.map((name) => `lora.${name}`)];
}

function pathOf(key: string, origin: Origin): string {
  const all = knownPaths();
  const named = all.filter((path) => path.split(".").at(-1) === key);
  const path = all.includes(key) ? key : named.length === 1 ? named[0]! : null;
  if (path && !FIXED.includes(path)) return path;
  if (path) {
    const expected = "a setting that trials may differ in";
    const hint = "They are compared on the same held-out rows of the same model.";
    throw configError({ key: `space.${key}`, expected, got: path, hint }, origin);
  }
  const words = all.map((one) => one.split(".").at(-1)!);
  const hint = named.length > 1 ? named.join(" or ") : nearest(key, [...all, ...words]);
  const expected = "a setting of a run";
  throw configError(
    { key: `space.${key}`, expected, got: key, hint: `Did you mean ${hint}?` },
    origin,
  );
}

function spaceOf(declared: Readonly<Record<string, unknown>>, origin: Origin): Space {
  try {
    return readSpace(declared);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    const { arg = "", expected = "", got, message } = error;
    const [, hint] = message.split(`got ${got}. `);
    const key = arg === "space" ? arg : `space.${arg}`;
    const value = arg === "space" ? declared : (declared[arg] ?? got);
    throw configError({ key, expected, got: value, ...(hint ? { hint } : {}) }, origin);
  }
}

/** What belongs to asha alone, and what it needs. */
function checkSearch({ config, space, sweep, origin }: Omit<SweepPlan, "declared">): void {
  const isAsha = sweep.search === "asha";
  for (const key of ["min_steps", "eta"] as const) {
    if (isAsha || sweep[key] === undefined) continue;
    const expected = "absent unless sweep.search is asha";
    throw configError({ key: `sweep.${key}`, expected, got: sweep[key] }, origin);
  }
  if (sweep.forgetting_weight > 0 && !config.data.general) {
    const expected = "0 where data.general is absent";
    throw configError(
      { key: "sweep.forgetting_weight", expected, got: sweep.forgetting_weight },
      origin,
    );
  }
  if (!isAsha) return;
  const { steps, checkpoint_every } = config.training;
  const sized = ["steps", "epochs", ...(steps === undefined ? ["batch", "accumulate"] : [])];
  for (const path of [...sized, "checkpoint_every"].map((name) => `training.${name}`)) {
    if (!space.has(path)) continue;
    const expected = "absent with asha, whose trials have the same steps";
    throw configError({ key: `space.${path}`, expected, got: "given" }, origin);
  }
  if (checkpoint_every !== 0) return;
  const expected = "above 0 with asha, whose trials go on from their checkpoints";
  throw configError({ key: "training.checkpoint_every", expected, got: 0 }, origin);
}

/** The raw configuration of the sweep in a folder, out of its sweep.json. */
export function configOfFacts(folder: string, facts: Readonly<Record<string, unknown>>): RawConfig {
  const { config, space, sweep, trials, side_by_side } = facts as Record<string, RawConfig>;
  const { round: _, ...section } = sweep ?? {};
  const own = { ...section, trials, side_by_side };
  const given = Object.entries(own).filter(([, value]) => value !== undefined);
  return { ...config, output: folder, space, sweep: Object.fromEntries(given) };
}
