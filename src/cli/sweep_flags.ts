// The flags of `lowrank sweep` beside those of `lowrank train`, and the configuration that they make.
import type { Command } from "commander";
import {
  ConfigError,
  parseValue,
  type RawConfig,
  readConfigFile,
  withSettings,
} from "../train/recipe/index.ts";
import { configOfFacts, EXPORTS, SEARCHES } from "../train/sweep/index.ts";
import { UsageError } from "./errors.ts";
import { collect } from "./models.ts";
import {
  type Asked,
  addTrainFlags,
  checkGiven,
  flagSettings,
  originOf,
  type TrainOptions,
} from "./train_flags.ts";

/** Flags of the section `sweep`, with the keys that they set. */
const FLAGS = [
  ["--search <name>", "search", `${SEARCHES.join(", ")} (default: tpe)`],
  ["--trials <n>", "trials", "of random, asha and tpe (default: 20); at most so many of the others"],
  ["--forgetting-weight <w>", "forgetting_weight", "what a nat of forgetting on --general counts against one of validation loss (default: 0)"],
  ["--side-by-side <n>", "side_by_side", "most trials that are under way at once (default: 1)"],
  ["--min-steps <n>", "min_steps", "asha: steps before its first look (default: steps / eta²)"],
  ["--eta <n>", "eta", "asha: of so many trials one goes on, with so many times the steps (default: 3)"],
  ["--search-seed <n>", "seed", "of what is drawn from the space (default: 0)"],
] as const; // biome-ignore format: a table

export interface SweepOptions extends TrainOptions {
  space?: string[];
  export?: string;
  collect?: boolean;
  trial?: string;
}

export function addSweepFlags(command: Command): Command {
  addTrainFlags(command).option(
    "--space <setting=values>",
    "a setting and its values: r=4,8,16 or lr=1e-4..1e-2; several times for several",
    collect,
  );
  for (const [flags, , what] of FLAGS) command.option(flags, what);
  return command
    .option("--resume", "goes on with the sweep in --out, as `lowrank sweep <folder>` does")
    .option(
      "--export <kind>",
      `writes the trials as jobs for other machines: ${EXPORTS.join(", ")}`,
    )
    .option("--collect", "brings the results of other machines into trials.jsonl")
    .option("--trial <n>", "runs this trial alone, and leaves its result for --collect");
}

/**
 * The configuration that a call asks for: that of the folder or the file, and the flags over it.
 * @param given  folder of a sweep to go on with; --resume with --out alone means the same
 * @throws UsageError, ConfigError
 */
export async function askedSweep(given: string | undefined, options: SweepOptions): Promise<Asked> {
  const { resume, config, model, out } = options;
  const isAlone = resume && config === undefined && model === undefined;
  const folder = given ?? (isAlone ? (out as string | undefined) : undefined);
  const { settings, flags } = await flagSettings(options);
  const origin = originOf(options, flags);
  const start = await startOf(folder, options);
  const raw = withSettings(start, {
    ...settings,
    ...(folder === undefined ? {} : { resume: true }),
  });
  const sweep = { ...(start.sweep as RawConfig) };
  for (const [names, key] of FLAGS) {
    const long = names.match(/--([\w-]+)/)![1]!;
    const given = options[long.replace(/-(.)/g, (_, c: string) => c.toUpperCase())];
    if (given === undefined) continue;
    sweep[key] = await parseValue(given as string);
    flags[`sweep.${key}`] = `--${long}`;
  }
  if (Object.keys(sweep).length > 0) raw.sweep = sweep;
  const space = await spaceOf(options.space ?? []);
  for (const key of Object.keys(space)) flags[`space.${key}`] = `--space ${key}`;
  if (options.space || start.space) raw.space = { ...(start.space as RawConfig), ...space };
  if (folder === undefined) checkGiven({ raw, origin }, options);
  return { raw, origin };
}

async function startOf(folder: string | undefined, { config }: SweepOptions): Promise<RawConfig> {
  if (folder === undefined) return config === undefined ? {} : readConfigFile(config);
  if (config !== undefined) {
    const facts = {
      arg: "--config",
      expected: "absent where a sweep's folder is given",
      got: config,
    };
    throw new UsageError({ op: "lowrank", ...facts });
  }
  const facts = await readConfigFile(`${folder}/sweep.json`).catch((error: unknown) => {
    if (!(error instanceof ConfigError)) throw error;
    const expected = "one of a sweep, with sweep.json";
    throw new UsageError({ op: "lowrank", arg: "the folder", expected, got: folder });
  });
  return configOfFacts(folder, facts);
}

async function spaceOf(given: readonly string[]): Promise<RawConfig> {
  const space: RawConfig = {};
  for (const one of given) {
    const [, key, text] = one.match(/^([^=]+)=(.+)$/s) ?? [];
    if (key === undefined) {
      const facts = { arg: "--space", expected: "setting=values", got: `"${one}"` };
      const hint = "As --space r=4,8,16 or --space lr=1e-4..1e-2.";
      throw new UsageError({ op: "lowrank", ...facts, hint });
    }
    space[key] = await valuesOf(text!);
  }
  return space;
}

/** `4,8,16`, `1e-4..1e-2`, or as a file has them. */
async function valuesOf(text: string): Promise<unknown> {
  const [, low, high] = text.match(/^([^,[{]+?)\.\.([^,[{]+)$/) ?? [];
  if (low !== undefined) return rangeOf(await parseValue(low), await parseValue(high!));
  return parseValue(/^[[{]/.test(text) ? text : `[${text}]`);
}

/** Where the ends are far apart, values are even by their factors. */
function rangeOf(low: unknown, high: unknown): object {
  const [a, b] = [Number(low), Number(high)];
  const isWide = a > 0 && b >= 10 * a;
  const kind = Number.isInteger(a) && Number.isInteger(b) ? "integer" : "uniform";
  return { [isWide ? `log_${kind}` : kind]: [low, high] };
}
