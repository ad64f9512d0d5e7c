// Two settings of a sweep as a map.
import type { Figure } from "../figure.ts";
import { loss } from "../format.ts";
import { type Drawing, plot } from "../plot.ts";
import type { Sweep } from "../read_sweep.ts";
import { axesOf, type SettingAxis } from "./axis.ts";
import { ranked, type Scored } from "./ranked.ts";

/** The lowest objective over two settings. */
export async function mapFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep);
  const pair = pairOf(axesOf(trials, sweep.varied), trials.length);
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
    margin: { left: Math.min(190, 36 + 7 * longest), top: 4, right: 6 },
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
      "The lowest objective of the trials in each cell, whatever their other settings. The stronger the colour, the better; the best is framed.",
    size: "half",
    plot: await plot(
      `Lowest objective by ${up.name} and ${across.name}. Best: ${best.tip}.`,
      "half",
      drawing,
    ),
  };
}

const MOST_CELLS = 9;

/** Rank and alpha where they vary, else the first two settings with few values, which trials share. */
function pairOf(by: readonly SettingAxis[], trials: number): [SettingAxis, SettingAxis] | null {
  const few = by.filter(
    ({ values }) => values.length > 1 && values.length <= MOST_CELLS && values.length < trials,
  );
  const named = (name: string) => few.find(({ key }) => key === name);
  const across = named("lora.r") ?? few[0];
  const up = named("lora.lora_alpha") ?? few.find((axis) => axis !== across);
  return across && up && across !== up ? [across, up] : null;
}
