// All settings of a sweep at once.
import { colourOf, type Figure } from "../figure.ts";
import { loss } from "../format.ts";
import { axes, line, type Mark, words } from "../marks.ts";
import { type Drawing, type Layer, plot } from "../plot.ts";
import type { Sweep } from "../read_sweep.ts";
import { axesOf, type SettingAxis, ticksOf } from "./axis.ts";
import { goodness, nameOf, ranked, shade } from "./ranked.ts";

/** Parallel coordinates: an axis for each setting and one for the objective, a line for each trial. */
export async function parallelFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep);
  const by = axesOf(trials, sweep.varied);
  if (trials.length < 2 || by.length === 0) return null;
  const good = goodness(trials);
  const scores = trials.map(({ objective }) => objective);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
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
      "Each line is a trial, from its settings to its objective; lower is better. The stronger its colour, the better; the thick one is the best.",
    size: "whole",
    plot: await plot(
      `Parallel coordinates of ${trials.length} trials. Best: ${nameOf(trials[0]!, by)}.`,
      "whole",
      drawing,
    ),
  };
}
