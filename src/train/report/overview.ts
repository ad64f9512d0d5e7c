// What a run came to, in a row of numbers; and what it was run with.
import { colourOf, table } from "./figure.ts";
import { peakBytes } from "./figures/bars.ts";
import type { Finding } from "./findings.ts";
import { lowest } from "./findings.ts";
import { bytes, count, duration, loss, moment, ms, percent, plain, signed } from "./format.ts";
import { type Html, html, type Part, trusted } from "./html.ts";
import type { Run } from "./read_run.ts";

/** Losses before and after, where both are known. */
export function changeOf(
  run: Run,
  of: "valid" | "general",
): { before: number; after: number } | null {
  const before =
    run.facts.number(`${of}.before`) ?? (run[of][0]?.step === 0 ? run[of][0].loss : null);
  const kept = of === "valid" ? lowest(run.valid)?.loss : undefined;
  const patient = run.facts.number("valid.best.step") !== null;
  const after =
    run.facts.number(`${of}.after`) ?? (patient ? kept : undefined) ?? run[of].at(-1)?.loss;
  const trained = run[of].length > 1 || run.facts.number(`${of}.after`) !== null;
  return before !== null && after !== undefined && trained ? { before, after } : null;
}

/** Median milliseconds of a step. */
export function stepMs({ facts, steps }: Run): number | null {
  const told = facts.number("step_ms");
  if (told !== null) return told;
  const times = steps.flatMap((step) => step.stepMs ?? []).sort((a, b) => a - b);
  return times[times.length >> 1] ?? null;
}

/** How long it took, in seconds. */
function secondsOf({ facts }: Run): number | null {
  const [started, ended] = [facts.date("started"), facts.date("ended")];
  return started && ended ? (ended.getTime() - started.getTime()) / 1000 : null;
}

export type Tile = [name: string, value: Part, note: Part];

/** The run's main figures. */
export function tiles(run: Run): Html {
  const { facts, steps, valid } = run;
  const shown: Tile[] = [];
  const learnt = changeOf(run, "valid");
  if (learnt) {
    const share = learnt.after / learnt.before - 1;
    const note = `${signed(100 * share, 1)} %, perplexity ${perplexity(learnt.before)} → ${perplexity(learnt.after)}`;
    shown.push(["Validation loss", `${loss(learnt.before)} → ${loss(learnt.after)}`, note]);
  } else if (valid.length > 0) {
    shown.push(["Validation loss", loss(valid.at(-1)!.loss), `best ${loss(lowest(valid)!.loss)}`]);
  }
  const forgot = changeOf(run, "general");
  if (forgot) {
    const rise = forgot.after - forgot.before;
    shown.push([
      "Forgetting",
      signed(rise),
      `general loss ${loss(forgot.before)} → ${loss(forgot.after)}`,
    ]);
  }
  const trainable = facts.number("parameters.trainable");
  const share = facts.number("parameters.share");
  if (trainable !== null) {
    const total = facts.number("parameters.total");
    const of = total === null ? "" : ` of ${count(total)}`;
    shown.push([
      "Trained parameters",
      count(trainable),
      share === null ? of : `${percent(share)}${of}`,
    ]);
  }
  const peak = peakBytes(run);
  if (peak !== null) shown.push(["Peak GPU memory", bytes(peak), "all categories together"]);
  const step = stepMs(run);
  if (step !== null) {
    const rate = facts.number("tokens_per_second");
    shown.push(["Step, median", ms(step), rate === null ? "" : `${count(rate)} tokens per second`]);
  }
  const disk = facts.number("adapter_bytes");
  if (disk !== null)
    shown.push([
      "On disk",
      bytes(disk),
      facts.text("config.method") === "full" ? "whole model" : "adapter",
    ]);
  const seconds = secondsOf(run);
  const last = steps.at(-1)?.step;
  if (last !== undefined)
    shown.push(["Steps", count(last), seconds === null ? "" : `in ${duration(seconds)}`]);
  return tileRow(shown);
}

/** Figures in a row, each under its name. */
export function tileRow(shown: readonly Tile[]): Html {
  const tile = ([name, value, note]: Tile) =>
    html`<div><dt>${name}</dt><dd>${value}</dd>${note !== "" && html`<dd>${note}</dd>`}</div>`;
  return html`${shown.length > 0 && html`<dl class="tiles">${shown.map(tile)}</dl>`}`;
}

const perplexity = (x: number): string => {
  const value = Math.exp(x);
  return value < 1000 ? value.toPrecision(3) : count(value);
};

const ICONS: Readonly<Record<Finding["kind"], string>> = {
  bad: '<path d="M9 1.5 17.5 16.5h-17z" stroke-linejoin="round"/><path d="M9 7v4.5M9 13.6v.6"/>',
  mind: '<circle cx="9" cy="9" r="7.5"/><path d="M9 8v5M9 5v.6"/>',
  good: '<circle cx="9" cy="9" r="7.5"/><path d="m5.5 9.3 2.4 2.4 4.6-5"/>',
};

/** Findings as a list. */
export function findingList(findings: readonly Finding[]): Html {
  const item = ({ kind, title, text }: Finding) =>
    html`<li class="${kind}"><svg viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" aria-hidden="true">${trusted(
      ICONS[kind],
    )}</svg><b>${title}.</b> ${text}</li>
`;
  return html`${findings.length > 0 && html`<ul class="findings">${findings.map(item)}</ul>`}`;
}

/** What was trained, where and when, in a line. */
export function lead({ facts }: Run): string {
  const method = facts.text("config.method");
  const [r, alpha] = [facts.number("config.lora.r"), facts.number("config.lora.lora_alpha")];
  const rank =
    r === null || method === "full" ? "" : `, r ${r}${alpha === null ? "" : `, α ${alpha}`}`;
  const started = facts.date("started");
  return [
    ...(method === null ? [] : [`${METHODS[method] ?? method}${rank}`]),
    facts.text("config.model"),
    deviceOf(facts),
    started && moment(started),
  ]
    .filter((part) => part)
    .join(" · ");
}

export const METHODS: Readonly<Record<string, string>> = {
  lora: "LoRA",
  full: "Full fine-tuning",
  dora: "DoRA",
  rslora: "rsLoRA",
  "lora+": "LoRA+",
  "lora-fa": "LoRA-FA",
  pissa: "PiSSA",
  olora: "OLoRA",
  qlora: "QLoRA",
};

/** The device's name, however the run wrote it. */
function deviceOf(facts: Run["facts"]): string | null {
  return facts.text("adapter") ?? facts.text("adapter.description") ?? facts.text("adapter.name");
}

/** A setting's value as it would be typed. */
export function settingText(value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return plain(value);
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(settingText).join(", ") || "–";
  const text = JSON.stringify(value);
  return text === "{}" ? "–" : text;
}

/** All settings, device and version, by section. */
export function settings({ facts }: Run): Html {
  const groups = new Map<string, [string, string][]>();
  const add = (group: string, key: string, value: unknown) => {
    if (value === null || value === undefined) return;
    groups.set(group, [...(groups.get(group) ?? []), [key, settingText(value)]]);
  };
  for (const [path, value] of facts.leaves("config")) {
    const [head, ...rest] = path.split(".");
    if (rest.length === 0) add("run", path, value);
    else add(head!, rest.join("."), value);
  }
  for (const [path, value] of facts.leaves("adapter")) add("device", path, value);
  if (groups.get("device") === undefined) add("device", "name", facts.text("adapter"));
  for (const key of ["version", "started", "ended", "stopped", "train_tokens", "valid_tokens"]) {
    add("record", key, facts.at(key));
  }
  const group = ([name, rows]: [string, [string, string][]]) =>
    html`<div class="group">${table([name, ""], rows)}</div>`;
  const command = facts.at("command");
  const typed = Array.isArray(command) ? command.join(" ") : facts.text("command");
  return html`${groups.size > 0 && html`<div class="settings">${[...groups].map(group)}</div>`}${
    typed && html`<p class="command">${typed}</p>`
  }`;
}

/** A run's name behind its colour. */
export function coloured(name: string, i: number): Html {
  return html`<span class="dot" style="background:${colourOf(i)}"></span>${name}`;
}
