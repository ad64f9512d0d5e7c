// Loss curves as an SVG file, drawn by Vega-Lite.
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { writeFileSafely } from "../../src/tensor/files.ts";

export interface Curve {
  name: string;
  /** Loss in nats per byte after each of these steps. */
  points: readonly { step: number; loss: number }[];
  /** Held-out text, drawn with dots. */
  held?: boolean;
}

/** The mean of each group of `width` neighbours, at the group's last step. */
export function smooth(losses: readonly number[], width: number): { step: number; loss: number }[] {
  const points = [];
  for (let i = 0; i < losses.length; i += width) {
    const group = losses.slice(i, i + width);
    points.push({ step: i + group.length, loss: group.reduce((a, b) => a + b, 0) / group.length });
  }
  return points;
}

/** Draws curves over steps into a file. */
export async function drawCurves(
  path: string,
  title: string,
  curves: readonly Curve[],
): Promise<void> {
  const values = curves.flatMap(({ name, points, held = false }) =>
    points.map((point) => ({ ...point, name, held })),
  );
  const legend = { labelLimit: 0 };
  const color = { field: "name", type: "nominal" as const, title: null, sort: null, legend };
  const spec: TopLevelSpec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    width: 640,
    height: 360,
    background: "white",
    data: { values },
    encoding: {
      x: { field: "step", type: "quantitative", title: "step" },
      y: {
        field: "loss",
        type: "quantitative",
        title: "loss (nats per byte)",
        scale: { zero: false },
      },
      color,
    },
    layer: [
      { mark: { type: "line", strokeWidth: 2 } },
      { transform: [{ filter: "datum.held" }], mark: { type: "point", filled: true, size: 50 } },
    ],
    config: { font: "sans-serif", view: { stroke: null }, axis: { grid: true, gridOpacity: 0.4 } },
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: "none" });
  await writeFileSafely(path, await view.toSVG());
  view.finalize();
}
