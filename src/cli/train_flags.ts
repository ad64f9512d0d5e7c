// The flags of `lowrank train`, each for a key of the configuration, and the configuration that they make.
import type { Command } from "commander";
import {
  METHODS,
  type Origin,
  parseValue,
  type RawConfig,
  readConfigFile,
  readRun,
  withSettings,
} from "../train/recipe/index.ts";
import { list } from "./action.ts";
import { UsageError } from "./errors.ts";
import { collect } from "./models.ts";

interface Flag {
  /** As commander reads it. */
  flags: string;
  /** Dotted path of the key that it sets. */
  key: string;
  what: string;
  /** What is typed: a text, a value as YAML writes it, a list, or nothing. */
  kind?: "flag" | "text" | "paths" | "targets" | "rates" | "share";
}

/** In the order of the help. */
export const FLAGS: readonly Flag[] = [
  { flags: "-m, --model <folder>", key: "model", what: "folder of the model, or org/name of the hub", kind: "text" },
  { flags: "-d, --data <path>", key: "data.train", what: "text, JSONL or a folder to learn; several times for several", kind: "paths" },
  { flags: "-o, --out <folder>", key: "output", what: "gets the run: adapter, losses, checkpoint", kind: "text" },
  { flags: "--valid <path>", key: "data.valid", what: "what is held out: a share, 0 for nothing, or files of their own (default: a tenth)", kind: "share" },
  { flags: "--general <path>", key: "data.general", what: "general text on which to see what is forgotten", kind: "paths" },
  { flags: "--replay <path>", key: "data.replay.data", what: "general text that is mixed in against forgetting", kind: "paths" },
  { flags: "--self-replay", key: "data.replay.self", what: "in its place, texts that the base writes itself", kind: "flag" },
  { flags: "--replay-share <share>", key: "data.replay.share", what: "its share of the rows (default: 0.25)" },
  { flags: "--length <n>", key: "data.length", what: "tokens that the model sees at once (default: its context, at most 512)" },
  { flags: "--long <way>", key: "data.long", what: "longer examples: error, truncate, drop, split (default: plain text is split, lines of JSONL are an error)", kind: "text" },
  { flags: "--skip-bad", key: "data.skip_bad", what: "passes over samples that cannot be used, and counts them", kind: "flag" },
  { flags: "--spill <folder>", key: "data.spill", what: "keeps the tokens in a file there, not in memory: for data larger than that", kind: "text" },
  { flags: "--method <method>", key: "method", what: `${METHODS.join(", ")}; train compares several, as lora,full (default: lora)`, kind: "text" },
  { flags: "--r <n>", key: "lora.r", what: "rank of the adapter (default: 16)" },
  { flags: "--lora-alpha <alpha>", key: "lora.lora_alpha", what: "the update is scaled by alpha / r (default: 2r)" },
  { flags: "--lora-dropout <p>", key: "lora.lora_dropout", what: "dropout before A (default: 0)" },
  { flags: "--target-modules <names>", key: "lora.target_modules", what: "layers that get an adapter, such as q_proj,v_proj (default: all-linear)", kind: "targets" },
  { flags: "--steps <n>", key: "training.steps", what: "optimiser steps; or" },
  { flags: "--epochs <n>", key: "training.epochs", what: "passes over the data (default: 3)" },
  { flags: "--batch <n>", key: "training.batch", what: "rows at once (default: 8)" },
  { flags: "--accumulate <n>", key: "training.accumulate", what: "batches per step (default: 1)" },
  { flags: "--gradient-checkpointing", key: "training.gradient_checkpointing", what: "less memory for more time: layers are computed again in backward", kind: "flag" },
  { flags: "--lr <rate>", key: "training.lr", what: "learning rate, or auto, which finds one by a short test before training; several methods may have each their own, lora=1e-3,full=1e-4; one rate is that of adapters, and full gets a tenth (default: 2e-4, for full 2e-5)", kind: "rates" },
  { flags: "--warmup <n>", key: "training.warmup", what: "steps, or a share of them, in which the rate rises (default: 0.03)" },
  { flags: "--schedule <name>", key: "training.schedule", what: "cosine, linear, constant (default: cosine)", kind: "text" },
  { flags: "--weight-decay <x>", key: "training.weight_decay", what: "of matrices (default: 0)" },
  { flags: "--eval-every <n>", key: "training.eval_every", what: "steps between looks at what is held out (default: a tenth of all, or more where looks would take over half as long as the steps)" },
  { flags: "--patience <n>", key: "training.patience", what: "ends after so many looks without a lower loss, and keeps the best weights" },
  { flags: "--seed <n>", key: "seed", what: "of first values, dropout and the order of rows (default: 0)" },
  { flags: "--tokenizer <folder>", key: "tokenizer", what: "folder with tokenizer.json, or bytes (default: the model's)", kind: "text" },
  { flags: "--dtype <type>", key: "base_dtype", what: "what the frozen base is held as: auto, f32, f16, bf16, int8, nf4 (default: auto)", kind: "text" },
]; // biome-ignore format: a table

/** What commander makes of them. */
export interface TrainOptions extends Record<string, unknown> {
  config?: string;
  set?: string[];
  resume?: boolean;
  profile?: boolean;
}

/** Puts the flags into a command. */
export function addTrainFlags(command: Command): Command {
  command.option("-c, --config <file>", "YAML or JSON with the settings; flags go before it");
  for (const { flags, what, kind } of FLAGS) {
    if (kind === "paths") command.option(flags, what, collect);
    else command.option(flags, what);
  }
  return command.option(
    "--set <key=value>",
    "any setting by its path, such as training.clip=0.5; several times for several",
    collect,
  );
}

/** A configuration as it was asked for, not yet checked, and where its values come from. */
export interface Asked {
  raw: RawConfig;
  origin: Origin;
}

/**
 * The configuration that a call asks for: that of the file, and the flags over it. A call with `--resume` and neither
 * file nor model goes on with the settings of the run.
 * @throws UsageError, and ConfigError for the file and for paths of keys that there are not
 */
export async function askedConfig(options: TrainOptions): Promise<Asked> {
  const { settings, flags } = await flagSettings(options);
  const raw = withSettings(await startOf(options, settings), settings);
  return { raw, origin: originOf(options, flags) };
}

/** Where values come from, for messages. */
export function originOf({ config: file }: TrainOptions, flags: Record<string, string>): Origin {
  return file === undefined ? { flags } : { file, flags };
}

/** The settings that flags give, by the paths of their keys, and the flags of these. */
export async function flagSettings(options: TrainOptions) {
  const settings: Record<string, unknown> = {};
  const flags: Record<string, string> = {};
  for (const { flags: names, key, kind } of FLAGS) {
    const long = names.match(/--([\w-]+)/)![1]!;
    const given = options[long.replace(/-(.)/g, (_, c: string) => c.toUpperCase())];
    if (given === undefined) continue;
    settings[key] = await readValue(given, kind);
    flags[key] = `--${long}`;
  }
  for (const setting of options.set ?? []) {
    const [, key, text] = setting.match(/^([^=]+)=(.*)$/s) ?? [];
    if (key === undefined) {
      const facts = { arg: "--set", expected: "key=value", got: `"${setting}"` };
      throw new UsageError({ op: "lowrank", ...facts, hint: "As --set training.lr=1e-3." });
    }
    if (flags[key]?.startsWith("--set") === false) {
      const got = `${flags[key]} and --set ${key}`;
      throw new UsageError({ op: "lowrank", arg: key, expected: "given once", got });
    }
    settings[key] = await parseValue(text!);
    flags[key] = `--set ${key}`;
  }
  if (options.resume) settings.resume = true;
  return { settings, flags };
}

/** What the flags change: the file, or the settings of the run that goes on. */
async function startOf({ config, resume }: TrainOptions, settings: RawConfig): Promise<RawConfig> {
  if (config !== undefined) return readConfigFile(config);
  const { output, model } = settings;
  if (!resume || model !== undefined || typeof output !== "string") return {};
  const run = await readRun(output);
  if (run) return { ...run.config };
  throw new UsageError({
    op: "lowrank",
    arg: "--out",
    expected: "a folder with a run to go on with",
    got: output,
    hint: "A run of several methods goes on by the call that began it, with --resume.",
  });
}

async function readValue(given: unknown, kind: Flag["kind"]): Promise<unknown> {
  if (kind === "flag" || kind === "text" || kind === "paths") return given;
  const text = given as string;
  if (kind === "share") return /^[\d.]+$/.test(text) ? Number(text) : list(text);
  if (kind === "targets") return text === "all-linear" ? text : list(text);
  if (kind !== "rates" || !text.includes("=")) return parseValue(text);
  const rates = list(text).map(async (part) => {
    const [method, rate = ""] = part.split("=");
    return [method, await parseValue(rate)] as const;
  });
  return Object.fromEntries(await Promise.all(rates));
}

/** What a newcomer forgets first, by the flags' names. */
export function checkGiven({ raw }: Asked, { config }: TrainOptions): void {
  if (config !== undefined) return;
  const { model, output, data } = raw as { model?: unknown; output?: unknown; data?: { train?: unknown } }; // biome-ignore format: one line
  for (const [arg, value] of Object.entries({
    "--model": model,
    "--data": data?.train,
    "--out": output,
  })) {
    if (value !== undefined) continue;
    const hint = "Or name a file of settings by --config.";
    throw new UsageError({ op: "lowrank", arg, expected: "given", got: "nothing", hint });
  }
}
