// What `lowrank eval` found, as text: a table for each set, and what it means in a sentence.
import type {
  Estimate,
  MatchedAnswer,
  RowDifference,
  RowFigures,
} from "../train/evaluation/index.ts";
import { counted, figureText, table } from "./text.ts";

export interface SetFigures {
  path: string;
  kind: "data" | "general";
  base: RowFigures;
  adapters: (RowFigures & { name: string; difference: RowDifference })[];
}

export interface MatchRow {
  path: string;
  questions: number;
  base: Estimate & { answers: MatchedAnswer[] };
  adapters: (Estimate & { name: string; answers: MatchedAnswer[]; difference: Estimate })[];
}

/** What `--json` prints. */
export interface EvalDocument {
  model: string;
  level: number;
  resamples: number;
  seed: number;
  sets: SetFigures[];
  exact_match: MatchRow[];
}

/** Intervals of fewer rows are rough. */
const FEW = 20;

export function evalText({ level, sets, exact_match }: EvalDocument): string {
  const parts = [...sets.map(setText), ...exact_match.map(matchText)];
  return [...parts, `[…, …] holds the true value with a probability of ${percent(level)}.`].join("\n\n"); // biome-ignore format: one line
}

function setText({ path, kind, base, adapters }: SetFigures): string {
  const what = kind === "general" ? "general text" : "data";
  const title = `${what}: ${path}, ${counted(base.rows, "row")}, ${counted(base.tokens, "token")}`;
  const figures = (name: string, f: RowFigures) => [
    name,
    estimate(f.loss),
    estimate(f.perplexity),
    estimate(f.accuracy, percent),
  ];
  const rows = [figures("base", base)];
  const notes: string[] = [];
  for (const adapter of adapters) {
    const { name, difference } = adapter;
    rows.push(figures(name, adapter));
    rows.push([
      `${name} − base`,
      signed(difference.loss),
      "",
      signed(difference.accuracy, percent),
    ]);
    if (base.rows > 1) notes.push(verdict(name, kind, difference.loss));
  }
  if (base.rows < FEW) notes.push(fewText(base.rows, "row"));
  return [title, table(["", "loss", "perplexity", "accuracy"], rows), ...notes].join("\n");
}

function fewText(n: number, what: string): string {
  if (n === 1) return `One ${what} says little: only several show a spread.`;
  return `${counted(n, what)} are few: their intervals are rough, and rather too narrow.`;
}

/** What a difference of losses means. */
function verdict(name: string, kind: "data" | "general", { value, low, high }: Estimate): string {
  const size = `${figureText(Math.abs(value), 3)} nats a token`;
  if (low <= 0 && high >= 0) {
    const what = kind === "general" ? "that it forgot anything" : "a difference";
    return `${name}: ${what} cannot be told from chance.`;
  }
  if (kind === "general") {
    return value > 0 ? `${name} forgot ${size}.` : `${name} forgot nothing; it gained ${size}.`;
  }
  return `${name} is ${value < 0 ? "better" : "worse"} than the base by ${size}.`;
}

function matchText({ path, questions, base, adapters }: MatchRow): string {
  const rows = [["base", estimate(base, percent), ""]];
  for (const adapter of adapters) {
    rows.push([adapter.name, estimate(adapter, percent), signed(adapter.difference, percent)]);
  }
  const title = `exact match: ${path}, ${counted(questions, "question")}`;
  const few = questions < FEW ? [fewText(questions, "question")] : [];
  const misses = missText(adapters.at(-1)?.answers ?? base.answers);
  return [title, table(["", "hits", "− base"], rows), ...few, ...misses].join("\n");
}

/** The first misses, which tell most. */
function missText(answers: readonly MatchedAnswer[]): string[] {
  const misses = answers.filter(({ isHit }) => !isHit).slice(0, 3);
  const shown = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
  return misses.map((miss) => `missed: expected ${shown(miss.expected)}, got ${shown(miss.text)}`);
}

function estimate(e: Estimate, show: (v: number) => string = figureText): string {
  return show(e.value) + interval(e, show);
}

/** Nothing where rows show no spread, as one row does: it would claim to be exact. */
function interval({ low, high }: Estimate, show: (v: number) => string): string {
  return low === high ? "" : ` [${show(low)}, ${show(high)}]`;
}

function signed(e: Estimate, show: (v: number) => string = figureText): string {
  const sign = (v: number) => (v > 0 ? `+${show(v)}` : show(v).replace("-", "−"));
  return sign(e.value) + interval(e, sign);
}

function percent(v: number): string {
  return `${Number((100 * v).toFixed(1))} %`;
}
