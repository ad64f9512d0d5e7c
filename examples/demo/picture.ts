// Loss curves, and bars beside them, as an SVG file drawn by Vega-Lite.
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { writeFileSafely } from "../../src/tensor/files.ts";

/** Loss in nats per byte after a number of steps. */
export interface Point {
  step: number;
  loss: number;
}

/** One training run. */
export interface Run {
  name: string;
  /** Which of COLOURS. */
  colour: number;
  training: readonly Point[];
  held: readonly Point[];
}

export interface Bar {
  name: string;
  loss: number;
  colour: number;
}

export interface Picture {
  title: string;
  subtitle: string;
  runs: readonly Run[];
  bars?: { title: string; values: readonly Bar[] };
}

type Panel = Extract<TopLevelSpec, { hconcat: unknown }>["hconcat"][number];

/** Okabe and Ito's blue, vermilion and grey, which all eyes can tell apart. */
const COLOURS = ["#0072B2", "#D55E00", "#7F7F7F"];
const LOSS = "loss (nats per byte)";

/** The mean of each group of `width` neighbours, at the group's last step. */
export function smooth(losses: readonly number[], width: number): Point[] {
  const points = [];
  for (let i = 0; i < losses.length; i += width) {
    const group = losses.slice(i, i + width);
    points.push({ step: i + group.length, loss: group.reduce((a, b) => a + b, 0) / group.length });
  }
  return points;
}

function curvesPanel(runs: readonly Run[]): Panel {
  const values = runs.flatMap(({ name, training, held }) => [
    ...training.map((point) => ({ ...point, name, held: false })),
    ...held.map((point) => ({ ...point, name, held: true })),
  ]);
  const domain = runs.map(({ name }) => name);
  const range = runs.map(({ colour }) => COLOURS[colour]!);
  const title = "Strong lines: held-out text. Thin lines: training.";
  const legend = {
    orient: "top",
    direction: "vertical",
    title,
    titleLimit: 0,
    labelLimit: 0,
  } as const;
  const held = [{ filter: "datum.held" }];
  return {
    width: 560,
    height: 340,
    data: { values },
    encoding: {
      x: { field: "step", type: "quantitative", title: "training step" },
      y: { field: "loss", type: "quantitative", title: LOSS, scale: { zero: false } },
      color: { field: "name", type: "nominal", scale: { domain, range }, legend },
    },
    layer: [
      {
        transform: [{ filter: "!datum.held" }],
        mark: { type: "line", strokeWidth: 1.2, strokeOpacity: 0.45 },
      },
      { transform: held, mark: { type: "line", strokeWidth: 2.5 } },
      { transform: held, mark: { type: "point", filled: true, size: 55, opacity: 1 } },
    ],
  };
}

function barsPanel({ title, values }: NonNullable<Picture["bars"]>): Panel {
  const names = values.map(({ name }) => name);
  const range = values.map(({ colour }) => COLOURS[colour]!);
  const highest = Math.max(...values.map(({ loss }) => loss));
  return {
    width: 190,
    height: 340,
    title: { text: title, anchor: "start", fontSize: 12, fontWeight: "normal" },
    data: { values: values.map((bar) => ({ ...bar, label: bar.loss.toFixed(3) })) },
    encoding: {
      x: { field: "name", type: "nominal", sort: names, title: null, axis: { labelAngle: 0 } },
      y: {
        field: "loss",
        type: "quantitative",
        title: LOSS,
        scale: { domain: [0, 1.15 * highest] },
      },
    },
    layer: [
      {
        mark: { type: "bar", width: 40 },
        encoding: {
          color: { field: "name", type: "nominal", scale: { domain: names, range }, legend: null },
        },
      },
      { mark: { type: "text", dy: -8 }, encoding: { text: { field: "label" } } },
    ],
  };
}

/** Draws a picture into a file. */
export async function drawPicture(path: string, picture: Picture): Promise<void> {
  const { title, subtitle, runs, bars } = picture;
  const spec: TopLevelSpec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: title, subtitle, anchor: "start", fontSize: 16, subtitlePadding: 6, offset: 12 },
    background: "white",
    padding: 16,
    hconcat: [curvesPanel(runs), ...(bars ? [barsPanel(bars)] : [])],
    spacing: 48,
    resolve: { scale: { color: "independent" } },
    config: { font: "sans-serif", view: { stroke: null }, axis: { gridOpacity: 0.4 } },
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: "none" });
  await writeFileSafely(path, await view.toSVG());
  view.finalize();
}
