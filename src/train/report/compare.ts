// Several runs side by side: what each cost, learnt and forgot, and in which settings they differ.
import { table } from "./figure.ts";
import { peakBytes } from "./figures/bars.ts";
import { bytes, count, loss, ms, percent, signed } from "./format.ts";
import { type Html, html, type Part } from "./html.ts";
import { changeOf, coloured, METHODS, settingText, stepMs } from "./overview.ts";
import type { Run } from "./read_run.ts";

interface Row {
  name: string;
  /** What decides; null where the run does not tell. Absent: nothing is best. */
  value?: (run: Run) => number | null;
  show: (run: Run) => Part;
}

const shown = (value: number | null | undefined, how: (x: number) => string): string =>
  value === null || value === undefined ? "–" : how(value);

function measured(
  name: string,
  value: (run: Run) => number | null,
  how: (x: number) => string,
): Row {
  return { name, value, show: (run) => shown(value(run), how) };
}

const ROWS: readonly Row[] = [
  {
    name: "method",
    show: ({ facts }) =>
      METHODS[facts.text("config.method") ?? ""] ?? facts.text("config.method") ?? "–",
  },
  {
    name: "trained parameters",
    show: ({ facts }) => {
      const share = facts.number("parameters.share");
      const n = shown(facts.number("parameters.trainable"), count);
      return share === null ? n : html`${n} <small>${percent(share)}</small>`;
    },
  },
  { name: "validation loss before", show: (run) => shown(changeOf(run, "valid")?.before, loss) },
  {
    ...measured("validation loss after", (run) => changeOf(run, "valid")?.after ?? null, loss),
    show: (run) => {
      const change = changeOf(run, "valid");
      return change
        ? html`${loss(change.after)} <small>${signed(change.after - change.before)}</small>`
        : "–";
    },
  },
  measured(
    "forgetting",
    (run) => {
      const change = changeOf(run, "general");
      return change ? change.after - change.before : run.facts.number("general.forgetting");
    },
    signed,
  ),
  measured("peak GPU memory", peakBytes, bytes),
  measured("step, median", stepMs, ms),
  {
    name: "tokens per second",
    value: ({ facts }) => -(facts.number("tokens_per_second") ?? Number.NaN),
    show: ({ facts }) => shown(facts.number("tokens_per_second"), count),
  },
  measured("on disk", ({ facts }) => facts.number("adapter_bytes"), bytes),
  { name: "steps", show: ({ steps }) => shown(steps.at(-1)?.step, count) },
];

/** Rows of what is measured; the best of each is bold. */
export function comparison(runs: readonly Run[]): Html {
  const rows = ROWS.map(({ name, value, show }) => {
    const values = runs.map((run) => value?.(run) ?? Number.NaN);
    const known = values.filter((x) => !Number.isNaN(x));
    const best = known.length > 1 && new Set(known).size > 1 ? Math.min(...known) : Number.NaN;
    return [
      name,
      ...runs.map((run, i) => (values[i] === best ? html`<b>${show(run)}</b>` : show(run))),
    ];
  }).filter(([, ...cells]) => cells.some((cell) => cell !== "–"));
  return html`<div class="compare">${table(["", ...runs.map(({ name }, i) => coloured(name, i))], rows)}</div>`;
}

/** The settings in which the runs differ; null where they are the same. */
export function differences(runs: readonly Run[]): Html | null {
  const maps = runs.map(({ facts }) => new Map(facts.leaves("config")));
  const keys = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  const rows = keys
    .map((key) => [key, ...maps.map((map) => settingText(map.get(key)))])
    .filter(([key, ...cells]) => key !== "output" && new Set(cells).size > 1);
  if (rows.length === 0) return null;
  return html`<div class="compare">${table(["", ...runs.map(({ name }, i) => coloured(name, i))], rows)}</div>`;
}
