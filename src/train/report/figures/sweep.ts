// Pictures of a sweep: all settings at once, two of them as a map, each by itself, and the trials' curves.
import { colourOf, type Figure, table } from "../figure.ts";
import { loss } from "../format.ts";
import { axes, dots, line, type Mark, rangeOf, words } from "../marks.ts";
import { type Drawing, type Layer, plot } from "../plot.ts";
import type { Sweep, Trial } from "../read_sweep.ts";
import { axesOf, type SettingAxis, ticksOf } from "./axis.ts";

/** A trial that came to an objective. */
export type Scored = Trial & { objective: number };

/** Trials with an objective, the best first. */
export function ranked({ trials }: Sweep): Scored[] {
  return trials
    .filter((trial): trial is Scored => trial.objective !== null)
    .sort((a, b) => a.objective - b.objective);
}

/** How good each trial is among all, from 0 to 1: by rank, which far-off trials do not squeeze. */
function goodness(trials: readonly Scored[]): (trial: Scored) => number {
  const place = new Map(trials.map((trial, i) => [trial, i]));
  return (trial) => 1 - place.get(trial)! / Math.max(trials.length - 1, 1);
}

/** From the colour of the worst to that of the best. */
const shade = (good: number): string =>
  `color-mix(in oklab, var(--high) ${Math.round(100 * good)}%, var(--worst))`;

const nameOf = (trial: Scored, by: readonly SettingAxis[]): string =>
  `trial ${trial.name}: ${by
    .map(
      ({ key, name, text }) =>
        `${name} ${trial.settings[key] === undefined ? "–" : text(trial.settings[key])}`,
    )
    .join(", ")}; objective ${loss(trial.objective)}`;

/** Parallel coordinates: an axis for each setting and one for the objective, a line for each trial. */
export async function parallelFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep);
  const by = axesOf(trials, sweep.varied);
  if (trials.length < 2 || by.length === 0) return null;
  const good = goodness(trials);
  const scores = trials.map(({ objective }) => objective);
  const [low, high] = [scores[0]!, scores.at(-1)!];
  const score: SettingAxis = {
    key: "",
    name: "objective",
    kind: "linear",
    values: [low, (low + high) / 2, high],
    place: (value) => (Number(value) - low) / (high - low || 1),
    text: (value) => loss(Number(value)),
  };
  const all = [...by, score];
  const lines = [...trials].reverse().map((trial) => ({
    trial,
    places: all.map((axis) => {
      const value = axis === score ? trial.objective : trial.settings[axis.key];
      return value === undefined ? null : axis.place(value);
    }),
  }));
  const drawing = (width: number, isNarrow: boolean): Drawing => {
    // On a narrow screen the axes lie across, one under the other.
    const long = isNarrow ? all.length * 74 : 300;
    const at = (along: number, place: number | null): Mark =>
      isNarrow ? { x: place ?? 0, y: place === null ? null : -along } : { x: along, y: place };
    const strands = lines.map(({ trial, places }, i) => {
      const isBest = i === lines.length - 1;
      const marks = places.map((place, along) => at(along, place));
      const colour = isBest ? colourOf(1) : shade(good(trial));
      return line(marks, {
        colour,
        width: isBest ? 3 : 1.2 + good(trial),
        opacity: isBest ? 1 : 0.75,
      });
    });
    const ends = all.length - 1;
    const poles: Layer = {
      data: { values: all.map((_, i) => ({ a: isNarrow ? -i : i })) },
      mark: { type: "rule", stroke: "var(--axis)", aria: false } as never,
      encoding: (isNarrow
        ? { x: { value: 0 }, x2: { value: width }, y: { field: "a", type: "quantitative" } }
        : {
            x: { field: "a", type: "quantitative" },
            y: { value: 0 },
            y2: { value: long },
          }) as never,
    };
    const label = (axis: SettingAxis, i: number, value: number | string) => {
      const { x, y } = at(i, axis.place(value));
      return { x, y: y!, text: axis.text(value) };
    };
    const labels = all.flatMap((axis, i) => ticksOf(axis, 5).map((v) => label(axis, i, v)));
    const titles = all.map(({ name }, i) =>
      isNarrow ? { x: 0, y: -i, text: name } : { x: i, y: 1, text: name },
    );
    const margin = isNarrow
      ? { left: 10, right: 10, top: 26, bottom: 30 }
      : { left: 12, right: 70, top: 34, bottom: 10 };
    const domain: [number, number] = isNarrow ? [-ends, 0] : [0, 1];
    return {
      height: long,
      margin,
      encoding: {
        x: {
          ...axes({ title: "", domain: isNarrow ? [0, 1] : [0, ends] }, {}).x,
          axis: null,
        } as never,
        y: { ...axes({ title: "" }, { domain }).y, axis: null } as never,
      },
      layer: [
        poles,
        ...strands,
        ...(isNarrow
          ? [
              words(
                labels.filter(({ x }) => x < 0.1),
                { dy: 13 },
              ),
              words(
                labels.filter(({ x }) => x >= 0.1 && x <= 0.9),
                { align: "center", dy: 13 },
              ),
              words(
                labels.filter(({ x }) => x > 0.9),
                { align: "right", dy: 13 },
              ),
              words(titles, { bold: true, dy: -13 }),
            ]
          : [words(labels, { dx: 7 }), words(titles, { bold: true, dy: -20, dx: -4 })]),
      ],
    };
  };
  return {
    title: "All trials",
    about:
      "Each line is a trial, from its settings to its objective; lower is better. Darker lines did better, the thick one best.",
    size: "whole",
    plot: await plot(
      `Parallel coordinates of ${trials.length} trials. Best: ${nameOf(trials[0]!, by)}.`,
      "whole",
      drawing,
    ),
  };
}

/** The lowest objective over two settings. */
export async function mapFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep);
  const pair = pairOf(axesOf(trials, sweep.varied));
  if (!pair) return null;
  const [across, up] = pair;
  const cells = new Map<string, Scored & { n: number }>();
  for (const trial of trials) {
    const [a, b] = [trial.settings[across.key], trial.settings[up.key]];
    if (a === undefined || b === undefined) continue;
    const key = JSON.stringify([a, b]);
    const seen = cells.get(key);
    cells.set(key, seen ? { ...seen, n: seen.n + 1 } : { ...trial, n: 1 });
  }
  if (cells.size < 3) return null;
  const scores = [...cells.values()].map(({ objective }) => objective).sort((a, b) => a - b);
  const [low, high] = [scores[0]!, scores.at(-1)!];
  const values = [...cells.values()].map(({ settings, objective, n }) => {
    const good = 1 - (objective - low) / (high - low || 1);
    const [a, b] = [across.text(settings[across.key]!), up.text(settings[up.key]!)];
    return {
      a,
      b,
      text: loss(objective),
      fill: `color-mix(in oklab, var(--high) ${Math.round(100 * good)}%, var(--low))`,
      ink: good > 0.55 ? "var(--on-high)" : "var(--on-low)",
      edge: objective === low ? "var(--c2)" : "var(--paper)",
      tip: `${across.name} ${a}, ${up.name} ${b}: ${loss(objective)}, the best of ${n}`,
    };
  });
  const order = (axis: SettingAxis) => axis.values.map(axis.text);
  const longest = Math.max(...order(up).map((text) => text.length));
  const drawing = (): Drawing => ({
    height: Math.max(150, 44 * up.values.length),
    margin: { left: Math.min(150, 26 + 7 * longest), top: 4, right: 6 },
    encoding: {
      x: {
        field: "a",
        type: "nominal",
        sort: order(across),
        title: across.name,
        scale: { paddingInner: 0.04 },
        axis: { labelAngle: 0 },
      },
      y: {
        field: "b",
        type: "nominal",
        sort: order(up).reverse(),
        title: up.name,
        scale: { paddingInner: 0.06 },
      },
    },
    layer: [
      {
        data: { values },
        mark: { type: "rect", strokeWidth: 2.5, cornerRadius: 3 },
        encoding: {
          fill: { field: "fill", type: "nominal", scale: null },
          stroke: { field: "edge", type: "nominal", scale: null },
          description: { field: "tip", type: "nominal" },
        },
      },
      {
        data: { values },
        mark: { type: "text", aria: false },
        encoding: {
          text: { field: "text" },
          color: { field: "ink", type: "nominal", scale: null },
        },
      },
    ],
  });
  const best = values.find(({ edge }) => edge !== "var(--paper)")!;
  return {
    title: `${up.name} by ${across.name}`,
    about:
      "The lowest objective of the trials in each cell, whatever their other settings. Darker is better; the best is framed.",
    size: "half",
    plot: await plot(
      `Lowest objective by ${up.name} and ${across.name}. Best: ${best.tip}.`,
      "half",
      drawing,
    ),
  };
}

const MOST_CELLS = 9;

/** Rank and alpha where they vary, else the first two settings with few values. */
function pairOf(by: readonly SettingAxis[]): [SettingAxis, SettingAxis] | null {
  const few = by.filter(({ values }) => values.length > 1 && values.length <= MOST_CELLS);
  const named = (name: string) => few.find(({ key }) => key === name);
  const across = named("lora.r") ?? few[0];
  const up = named("lora.lora_alpha") ?? few.find((axis) => axis !== across);
  return across && up && across !== up ? [across, up] : null;
}

/** The objective over each setting: dots for trials, a line through the best of each value. */
export async function settingFigures(sweep: Sweep): Promise<Figure[]> {
  const trials = ranked(sweep);
  if (trials.length < 3) return [];
  const by = axesOf(trials, sweep.varied);
  // Trials that went far astray would squeeze the others into a line.
  const kept = trials.slice(0, Math.max(3, Math.ceil(0.9 * trials.length)));
  const domain = rangeOf(
    kept.map(({ objective }) => objective),
    0.1,
  )!;
  const figures: Figure[] = [];
  for (const axis of by) {
    const marks = kept.flatMap((trial): (Mark & { y: number })[] => {
      const value = trial.settings[axis.key];
      return value === undefined
        ? []
        : [{ x: axis.place(value), y: trial.objective, tip: nameOf(trial, by) }];
    });
    const lowest = new Map<number, Mark & { y: number }>();
    for (const mark of marks) if (!lowest.has(mark.x)) lowest.set(mark.x, mark);
    const hull = [...lowest.values()].sort((a, b) => a.x - b.x);
    const isFew = axis.kind === "words" || axis.values.length <= 8;
    const ticks = ticksOf(axis, 8).map((v) => ({
      x: axis.place(v),
      y: domain[0],
      text: axis.text(v),
    }));
    const drawing = (): Drawing => ({
      height: 170,
      margin: { bottom: 30, left: 52, right: 24 },
      encoding: {
        ...axes({ title: "", domain: [-0.06, 1.06] }, { domain }),
        x: { ...axes({ title: "", domain: [-0.06, 1.06] }, {}).x, axis: null } as never,
      },
      layer: [
        ...(isFew && axis.kind !== "words"
          ? [line(hull, { colour: colourOf(0), width: 1.5 })]
          : []),
        dots(marks, { colour: colourOf(0), size: 40 }),
        dots(marks.slice(0, 1), { colour: colourOf(1), size: 95 }),
        words(ticks, { align: "center", dy: 14, colour: "var(--muted)" }),
      ],
    });
    figures.push({
      title: axis.name,
      about: axis.kind === "log" ? "Objective, over a logarithmic axis." : "Objective.",
      size: "third",
      plot: await plot(
        `Objective over ${axis.name}. Best at ${axis.text(trials[0]!.settings[axis.key] ?? "–")}.`,
        "third",
        drawing,
      ),
    });
  }
  return figures;
}

/** Validation curves of all trials. */
export async function trialCurvesFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep).filter(({ valid }) => valid.length > 1);
  if (trials.length < 2) return null;
  const good = goodness(trials);
  const values = trials
    .flatMap(({ valid }) => valid.map((look) => look.loss))
    .sort((a, b) => a - b);
  const domain = rangeOf(values.slice(0, Math.ceil(0.98 * values.length)))!;
  const marks = ({ valid }: Scored): Mark[] =>
    valid.map(({ step, loss: y }) => ({ x: step, y: Math.min(y, domain[1]) }));
  const strands = [...trials].reverse().flatMap((trial) => {
    const isBest = trial === trials[0];
    const colour = isBest ? colourOf(1) : shade(good(trial));
    const path = marks(trial);
    return [
      line(path, { colour, width: isBest ? 2.6 : 1.3 }),
      dots(
        path.slice(-1).map((m) => ({ ...m, tip: `trial ${trial.name}` })),
        { colour, size: isBest ? 70 : 26 },
      ),
    ];
  });
  return {
    title: "Validation loss of the trials",
    about:
      "By step. A line that ends early is a trial that was stopped. Darker lines did better, the thick one best.",
    size: "half",
    plot: await plot(
      `Validation loss by step of ${trials.length} trials; the best ends at ${loss(trials[0]!.valid.at(-1)!.loss)}.`,
      "half",
      () => ({
        height: 240,
        encoding: axes({ title: "step", format: "~s" }, { domain }),
        layer: strands,
      }),
    ),
  };
}

/** Forgetting over validation loss. */
export async function tradeFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep);
  const marks = trials.flatMap(
    ({ name, validLoss, forgetting, objective }): (Mark & { y: number })[] =>
      validLoss === null || forgetting === null
        ? []
        : [
            {
              x: validLoss,
              y: forgetting,
              tip: `trial ${name}: validation ${loss(validLoss)}, forgetting ${loss(forgetting)}, objective ${loss(objective)}`,
            },
          ],
  );
  if (marks.length < 3) return null;
  return {
    title: "Learning against forgetting",
    about:
      "Forgetting over validation loss, a dot for each trial. To the left and down is better; the best objective is the large dot.",
    size: "half",
    plot: await plot(
      `Forgetting over validation loss of ${marks.length} trials. Best: ${marks[0]!.tip}.`,
      "half",
      () => ({
        height: 240,
        encoding: axes(
          {
            title: "validation loss",
            domain: rangeOf(
              marks.map(({ x }) => x),
              0.08,
            )!,
          },
          {
            domain: rangeOf(
              marks.map(({ y }) => y),
              0.1,
            )!,
          },
        ),
        layer: [
          dots(marks, { colour: colourOf(0) }),
          dots(marks.slice(0, 1), { colour: colourOf(1), size: 110 }),
        ],
      }),
    ),
  };
}

/** All trials as a table, the best first. */
export function trialTable(sweep: Sweep) {
  const by = axesOf(sweep.trials, sweep.varied);
  const unscored = sweep.trials.filter(({ objective }) => objective === null);
  const cell = (value: number | null, how: (x: number) => string) =>
    value === null ? "–" : how(value);
  return table(
    ["trial", "objective", "valid", "forgetting", ...by.map(({ name }) => name), "steps", "ended"],
    [...ranked(sweep), ...unscored].map((trial) => [
      trial.name,
      cell(trial.objective, loss),
      cell(trial.validLoss, loss),
      cell(trial.forgetting, loss),
      ...by.map(({ key, text }) => {
        const value = trial.settings[key];
        return value === undefined ? "–" : text(value);
      }),
      cell(trial.steps, String),
      trial.stopped ?? "–",
    ]),
  );
}
