// Each setting of a sweep by itself.
import { colourOf, type Figure } from "../figure.ts";
import { axes, dots, level, line, type Mark, rangeOf, words } from "../marks.ts";
import { type Drawing, plot } from "../plot.ts";
import type { Sweep } from "../read_sweep.ts";
import { axesOf, type SettingAxis, ticksOf } from "./axis.ts";
import { nameOf, ranked, type Scored, settingOf } from "./ranked.ts";

/** The objective over each setting: dots for trials, of numbers with a line through the best of each. */
export async function settingFigures(sweep: Sweep): Promise<Figure[]> {
  const trials = ranked(sweep);
  if (trials.length < 3) return [];
  const by = axesOf(trials, sweep.varied);
  // Trials that went far astray would squeeze the others into a line.
  const kept = [...trials]
    .sort((a, b) => a.objective - b.objective)
    .slice(0, Math.max(3, Math.ceil(0.9 * trials.length)));
  const domain = rangeOf(
    kept.map(({ objective }) => objective),
    0.1,
  )!;
  const figures: Figure[] = [];
  for (const axis of by) {
    const drawing = axis.kind === "words" ? overWords : overNumbers;
    const best = `Best at ${settingOf(trials[0]!, axis)}.`;
    const drawn = drawing(axis, kept, trials[0]!, domain, (trial) => nameOf(trial, by));
    figures.push({
      title: axis.name,
      about: axis.kind === "log" ? "Objective, over a logarithmic axis." : "Objective.",
      size: "third",
      plot: await plot(`Objective over ${axis.name}. ${best}`, "third", () => drawn),
    });
  }
  return figures;
}

type OverSetting = (
  axis: SettingAxis,
  trials: readonly Scored[],
  best: Scored,
  domain: [number, number],
  tipOf: (trial: Scored) => string,
) => Drawing;

const overNumbers: OverSetting = (axis, trials, best, domain, tipOf) => {
  const marks = trials.flatMap((trial) => {
    const value = trial.settings[axis.key];
    return value === undefined
      ? []
      : [{ x: axis.place(value), y: trial.objective, tip: tipOf(trial), trial }];
  });
  const lowest = new Map<number, Mark>();
  for (const mark of marks) if (!lowest.has(mark.x)) lowest.set(mark.x, mark);
  const hull = [...lowest.values()].sort((a, b) => a.x - b.x);
  const ticks = ticksOf(axis, 8).map((value) => ({
    x: axis.place(value),
    y: domain[0],
    text: axis.text(value),
  }));
  const { x, y } = axes({ title: "", domain: [-0.06, 1.06] }, { domain });
  return {
    height: 170,
    margin: { bottom: 30, left: 52, right: 24 },
    encoding: { x: { ...x, axis: null } as never, y },
    layer: [
      ...(axis.values.length <= 8 ? [line(hull, { colour: colourOf(0), width: 1.5 })] : []),
      dots(marks, { colour: colourOf(0), size: 40 }),
      dots(
        marks.filter(({ trial }) => trial === best),
        { colour: colourOf(1), size: 95 },
      ),
      words(ticks, { align: "center", dy: 14, colour: "var(--muted)" }),
    ],
  };
};

const WORD_ROW = 42;

/** Words lie under each other, each above its own row of dots. */
const overWords: OverSetting = (axis, trials, best, domain, tipOf) => {
  const row = (trial: Scored) => axis.values.indexOf(String(trial.settings[axis.key]));
  const marks = trials
    .filter((trial) => row(trial) >= 0)
    .map((trial) => ({ x: trial.objective, y: -row(trial), tip: tipOf(trial), trial }));
  const names = axis.values.map((value, i) => ({ x: domain[0], y: -i, text: axis.text(value) }));
  const height = Math.max(170, axis.values.length * WORD_ROW);
  const rows: [number, number] = [-axis.values.length + 0.4, 0.6];
  const { x, y } = axes({ title: "objective", domain }, { domain: rows });
  return {
    height,
    margin: { left: 6, right: 14 },
    encoding: { x, y: { ...y, axis: null } as never },
    layer: [
      ...axis.values.map((_, i) => level(-i, "var(--grid)")),
      dots(marks, { colour: colourOf(0), size: 40 }),
      dots(
        marks.filter(({ trial }) => trial === best),
        { colour: colourOf(1), size: 95 },
      ),
      words(names, { dy: -15 }),
    ],
  };
};
