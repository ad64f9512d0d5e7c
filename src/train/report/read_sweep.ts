// A sweep's folder: sweep.json, trials.jsonl and the trials' own runs.
import { basename, resolve } from "node:path";
import { fileExists, readJson } from "../../tensor/files.ts";
import { type JsonLines, type JsonObject, readJsonLines } from "../json_lines.ts";
import { overSeeds, ranking, type SeedGroup } from "../sweep/ranking.ts";
import type { TrialLine } from "../sweep/trials_file.ts";
import { Facts } from "./facts.ts";
import { damageOf, isRun, type Point, readRun } from "./read_run.ts";

export type Setting = number | string;

export interface Trial {
  name: string;
  /** Of its run; null where there is none. */
  folder: string | null;
  settings: Record<string, Setting>;
  seed: number | null;
  /** What the sweep wants small; null where the trial has none. */
  objective: number | null;
  validLoss: number | null;
  forgetting: number | null;
  steps: number | null;
  seconds: number | null;
  stopped: string | null;
  /** Whether it was let pause before its end. */
  paused: boolean;
  /** Validation losses by step, where the trial's folder has them. */
  valid: Point[];
}

export interface Sweep {
  name: string;
  folder: string;
  facts: Facts;
  /** The best first: whole ones before those that paused, those that failed last. */
  trials: Trial[];
  /** Means over trials that differ in nothing but their seed, where there are such. */
  groups: SeedGroup[];
  /** Settings but for the seed that differ between trials, in the order in which they appear. */
  varied: string[];
  damage: string[];
}

/** Whether a folder is a sweep's. */
export async function isSweep(folder: string): Promise<boolean> {
  return (await fileExists(`${folder}/sweep.json`)) || (await fileExists(`${folder}/trials.jsonl`));
}

/**
 * Reads a sweep.
 * @param folder  one with sweep.json, trials.jsonl or both
 * @throws FormatError where one of them cannot be read, or sweep.json is no JSON object
 */
export async function readSweep(folder: string): Promise<Sweep> {
  const [json, results] = ["sweep.json", "trials.jsonl"].map((name) => `${folder}/${name}`);
  const facts = new Facts((await fileExists(json!)) ? await readJson(json!) : {});
  const none: JsonLines = { lines: [], damaged: [], torn: false };
  const read = (await fileExists(results!)) ? await readJsonLines(results!) : none;
  const lines = read.lines.filter(isTrial);
  const trials: Trial[] = [];
  for (const line of ranking(lines)) trials.push(await trialOf(folder, new Facts({ ...line })));
  const keys = [...new Set(trials.flatMap(({ settings }) => Object.keys(settings)))];
  const varied = keys.filter(
    (key) => key !== "seed" && new Set(trials.map((t) => t.settings[key])).size > 1,
  );
  const groups = overSeeds(lines).filter((group) => group.trials.length > 1);
  const damage = damageOf("trials.jsonl", read);
  return { name: basename(resolve(folder)), folder, facts, trials, groups, varied, damage };
}

/** What the order of trials needs to know of a line. */
function isTrial(line: JsonObject): line is JsonObject & TrialLine {
  const { trial, settings, objective } = line;
  return (
    Number.isInteger(trial) &&
    typeof settings === "object" &&
    settings !== null &&
    (objective === null || Number.isFinite(objective))
  );
}

async function trialOf(folder: string, line: Facts): Promise<Trial> {
  const name = `${line.number("trial")}`;
  const own = `${folder}/trials/${basename(line.text("folder") ?? name)}`;
  const hasRun = await isRun(own);
  return {
    name,
    folder: hasRun ? own : null,
    settings: settingsOf(line.at("settings")),
    seed: line.number("seed"),
    objective: line.number("objective"),
    validLoss: line.number("valid_loss"),
    forgetting: line.number("forgetting"),
    steps: line.number("steps"),
    seconds: line.number("seconds"),
    stopped: line.text("stopped"),
    paused: line.number("budget") !== null && line.text("stopped") === "limit",
    valid: hasRun ? (await readRun(own)).valid : [],
  };
}

/** Settings by dotted path; lists of words become `a+b`, what else is neither number nor text becomes JSON. */
function settingsOf(value: unknown): Record<string, Setting> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, settingFrom(one)]));
}

function settingFrom(value: unknown): Setting {
  if (typeof value === "number" || typeof value === "string") return value;
  const isWords = Array.isArray(value) && value.every((part) => typeof part === "string");
  return isWords ? value.join("+") : JSON.stringify(value);
}
