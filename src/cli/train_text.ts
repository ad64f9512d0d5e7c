// What `lowrank train` prints in the end: what came of the run, and what to type next.
import type { RunSummary } from "../train/recipe/index.ts";
import { bytesText, counted, countText, figureText, pairs } from "./text.ts";

/** A run for people, and the commands that go on with it. */
export function runText(run: RunSummary): string {
  return `${pairs(rowsOf(run))}\n\nNext:\n${commandsText(nextCommands(run))}`;
}

/** Calls with what each does. */
export function commandsText(calls: readonly (readonly [call: string, what: string])[]): string {
  return calls.map(([call, what]) => `  # ${what}\n  ${call}`).join("\n");
}

function rowsOf(run: RunSummary): [string, string][] {
  const { config, steps, step_ms, tokens_per_second, parameters, valid, general } = run;
  const { trainable, total, share } = parameters;
  const speed = step_ms && `, ${figureText(step_ms, 3)} ms a step, ${countText(Math.round(tokens_per_second!))} tokens a second`; // biome-ignore format: one line
  const rows: [string, string][] = [
    [
      config.method,
      `${config.model}, ${steps} of ${counted(config.training.steps, "step")}${speed ?? ""}`,
    ],
  ];
  const why = endOf(run);
  if (why) rows.push(["ended early", why]);
  rows.push(["trained", `${countText(trainable)} of ${countText(total)} parameters (${figureText(100 * share, 3)} %)`]); // biome-ignore format: one line
  if (run.found_rate) rows.push(["learning rate", rateText(run.found_rate)]);
  if (valid) rows.push(["validation", validText(valid)]);
  if (general) rows.push(["general text", generalText(general)]);
  if (run.memory) rows.push(["GPU memory", memoryText(run.memory.peak_bytes)]);
  if (run.saved) rows.push(["saved", `${run.saved}, ${bytesText(run.adapter_bytes!)}`]);
  for (const note of run.notes) rows.push(["note", note]);
  return rows;
}

function endOf({ stopped, config: { training } }: RunSummary): string {
  if (stopped === "patience") {
    return `${counted(training.patience ?? 0, "look")} without a lower loss; the best look's weights are kept`;
  }
  if (stopped === "limit") return "the time was over";
  if (stopped === "aborted") return "interrupted";
  return stopped === "nonFinite" ? "a loss or gradient was not finite; try a lower rate" : "";
}

/** The rate that a range test found, and why that. */
export function rateText({ lr, lowest, diverged }: NonNullable<RunSummary["found_rate"]>): string {
  const rise = diverged === null ? "" : `, and rose again by ${figureText(diverged, 2)}`;
  return `${figureText(lr)}, found: half of the fall had come; the loss was lowest at ${figureText(lowest, 2)}${rise}`;
}

const nats = (loss: number | null) => (loss === null ? "?" : figureText(loss));
const change = (before: number, after: number | null) => `${nats(before)} → ${nats(after)}`;

function validText({ before, after, best }: NonNullable<RunSummary["valid"]>): string {
  const perplexity = change(Math.exp(before), after && Math.exp(after));
  const lowest = best && best.loss < (after ?? best.loss) ? `; lowest ${nats(best.loss)} at step ${best.step}` : ""; // biome-ignore format: one line
  return `${change(before, after)} nats per token (perplexity ${perplexity})${lowest}`;
}

function generalText({ before, after, forgetting }: NonNullable<RunSummary["general"]>): string {
  const by = forgetting ?? 0;
  return `${change(before, after)}: ${by > 0 ? "forgot" : "gained"} ${nats(Math.abs(by))}`;
}

function memoryText({ total, ...parts }: NonNullable<RunSummary["memory"]>["peak_bytes"]): string {
  const shown = Object.entries(parts).filter(([, bytes]) => bytes > 0);
  const of = shown.map(([name, bytes]) => `${name} ${bytesText(bytes)}`).join(", ");
  return `${bytesText(total)} at most (${of})`;
}

/** What to type next. */
function nextCommands({ config, folder, stopped }: RunSummary): [string, string][] {
  const { method, tokenizer, data } = config;
  const isFull = method === "full";
  const run = quoted(folder);
  const model = `${isFull ? `-m ${quoted(`${folder}/model`)}` : `-a ${run}`}${tokenizer ? ` --tokenizer ${quoted(tokenizer)}` : ""}`; // biome-ignore format: one line
  const held = Array.isArray(data.valid) ? data.valid : ["held-out.txt"];
  const sets = [...held.map((path) => `--data ${quoted(path)}`), ...(data.general ?? []).map((path) => `--forgetting ${quoted(path)}`)]; // biome-ignore format: one line
  if (data.length !== 512) sets.push(`--length ${data.length}`);
  const isCut = stopped === "aborted" || stopped === "limit";
  return [
    ...(isCut ? ([[`lowrank train --resume --out ${run}`, "goes on where it was left"]] as [string, string][]) : []), // biome-ignore format: one line
    [`lowrank generate ${model} --prompt "…"`, "writes with it; --interactive chats"],
    [`lowrank eval ${model} ${sets.join(" ")}`, isFull ? "measures it" : "base against adapter, with intervals"], // biome-ignore format: one line
    ...(isFull ? [] : ([[`lowrank merge -a ${run} --out ${quoted(`${folder}/merged`)}`, "a model that needs no adapter"]] as [string, string][])), // biome-ignore format: one line
    [`lowrank report ${run}`, "curves and findings as a page"],
  ];
}

/** A path as a shell takes it. */
export function quoted(path: string): string {
  return /^[\w./~:@%+,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
