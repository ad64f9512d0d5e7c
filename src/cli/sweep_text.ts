// What `lowrank sweep` prints: its trials from the best on, and what to type next.
import {
  type Exported,
  overSeeds,
  ranking,
  type Settings,
  type SweepSummary,
  type TrialLine,
} from "../train/sweep/index.ts";
import { counted, figureText, table } from "./text.ts";
import { commandsText, quoted } from "./train_text.ts";

/** Most trials that the table has. */
const MOST = 20;

/**
 * A sweep for people, and the commands that go on with it.
 * @param tokenizer  as it was asked for
 */
export function sweepText(
  { folder, lines, best, settings, done }: SweepSummary,
  tokenizer: unknown,
): string {
  const parts = [trialTable(lines)];
  const seeds = seedTable(lines);
  if (seeds) parts.push(seeds);
  if (settings) parts.push(`Best: ${settingsText(settings)}`);
  return `${parts.join("\n\n")}\n\nNext:\n${commandsText(nextCommands(folder, best, done, tokenizer))}`;
}

function nextCommands(
  folder: string,
  best: TrialLine | null,
  done: boolean,
  tokenizer: unknown,
): [string, string][] {
  const own = quoted(folder);
  const next: [string, string][] = [];
  if (!done) next.push([`lowrank sweep ${own}`, "goes on where it was left"]);
  if (best) {
    next.push([`lowrank train -c ${quoted(`${folder}/best.json`)}`, "trains with the best settings, in a folder of its own"]); // biome-ignore format: one line
    const flag = typeof tokenizer === "string" ? ` --tokenizer ${quoted(tokenizer)}` : "";
    next.push([`lowrank generate -a ${quoted(`${folder}/${best.folder}`)}${flag} --prompt "…"`, "writes with the best trial; it is a run like any other"]); // biome-ignore format: one line
  }
  next.push([`lowrank report ${own}`, "all trials as a page"]);
  return next;
}

/** Trials from the best on, with the settings in which they differ. */
export function trialTable(lines: readonly TrialLine[]): string {
  const all = ranking(lines);
  const shown = all.slice(0, MOST);
  const keys = variedIn(all);
  const hasGeneral = all.some(({ forgetting }) => forgetting !== null);
  const head = ["trial", ...keys.map(shortName), "objective", ...(hasGeneral ? ["valid", "forgetting"] : []), "steps", "seconds"]; // biome-ignore format: one line
  const rows = shown.map((line) => [
    `${line.trial}`,
    ...keys.map((key) => valueText(line.settings[key])),
    objectiveText(line),
    ...(hasGeneral ? [nats(line.valid_loss), nats(line.forgetting)] : []),
    `${line.steps}`,
    line.seconds.toFixed(1),
  ]);
  const more = all.length - shown.length;
  return `${table(head, rows)}${more > 0 ? `\n… and ${more} more, in trials.jsonl` : ""}`;
}

function objectiveText({ stopped, objective }: TrialLine): string {
  if (objective !== null) return figureText(objective);
  return stopped === "failed" ? "failed" : "not finite";
}

/** Means over seeds, where trials differ in them. */
function seedTable(lines: readonly TrialLine[]): string | null {
  const groups = overSeeds(lines);
  if (!groups.some(({ trials }) => trials.length > 1)) return null;
  const keys = variedIn(groups);
  const rows = groups
    .slice(0, MOST)
    .map(({ settings, trials, mean, deviation }) => [
      `${trials.length}`,
      ...keys.map((key) => valueText(settings[key])),
      nats(mean),
      nats(deviation),
    ]);
  return table(["seeds", ...keys.map(shortName), "mean", "deviation"], rows);
}

function variedIn(all: readonly { settings: Settings }[]): string[] {
  const keys = Object.keys(all[0]?.settings ?? {});
  const texts = (key: string) => new Set(all.map(({ settings }) => JSON.stringify(settings[key])));
  return keys.filter((key) => all.length === 1 || texts(key).size > 1);
}

/** `r 16, lr 0.001`. */
function settingsText(settings: Settings): string {
  const parts = Object.entries(settings).map(([key, v]) => `${shortName(key)} ${valueText(v)}`);
  return parts.join(", ");
}

const shortName = (path: string) => path.split(".").at(-1)!;
const nats = (loss: number | null) => (loss === null ? "–" : figureText(loss));

function valueText(value: unknown): string {
  if (typeof value === "number") return Number.isInteger(value) ? `${value}` : figureText(value);
  return Array.isArray(value) ? value.map(String).join("+") : `${value}`;
}

/** What other machines are to do, and what then. */
export function exportText(folder: string, { file, start, trials }: Exported): string {
  const own = quoted(folder);
  const next: [string, string][] = [
    [start, "runs them, from this folder or one like it: paths of model and data stay as they were typed"], // biome-ignore format: one line
    [`lowrank sweep ${own} --collect`, "brings their results together"],
    [`lowrank sweep ${own} --export …`, "the trials that the results call for, with asha and tpe"],
  ];
  return `${counted(trials.length, "trial")}: ${file}\n\nNext:\n${commandsText(next)}`;
}
