// Layers of plots. Every value has its place in `x` and `y`, and what hovers over it in `tip`.
import type { Encoding, Layer } from "./plot.ts";

/** A place in a plot. null in `y` is a gap. */
export interface Mark {
  x: number;
  y: number | null;
  /** Shown when the pointer rests on it. */
  tip?: string;
}

interface LineStyle {
  colour: string;
  width?: number;
  opacity?: number;
  dash?: number[];
}

/** A line through marks, in their order. */
export function line(values: readonly Mark[], style: LineStyle): Layer {
  const { colour, width = 2, opacity = 1, dash } = style;
  const mark = { type: "line", stroke: colour, strokeWidth: width, opacity, strokeJoin: "round" };
  return {
    data: { values: values.map(({ x, y }, i) => ({ x, y, i })) },
    mark: { ...mark, aria: false, ...(dash ? { strokeDash: dash } : {}) } as never,
    encoding: { order: { field: "i", type: "quantitative" } },
  };
}

/** Shapes of dots that tell runs apart where colours do not. */
const DOT_SHAPES = [
  "circle",
  "square",
  "diamond",
  "triangle-up",
  "cross",
  "triangle-down",
] as const;
export type DotShape = (typeof DOT_SHAPES)[number];
export const shapeOf = (i: number): DotShape => DOT_SHAPES[i % DOT_SHAPES.length]!;

/** Dots on marks, with their tips. */
export function dots(
  values: readonly Mark[],
  style: { colour: string; size?: number; ring?: boolean; shape?: DotShape },
): Layer {
  const { colour, size = 44, ring = false, shape = "circle" } = style;
  const fill = ring ? "var(--paper)" : colour;
  const edge = ring ? colour : "var(--paper)";
  return {
    data: { values: values as Mark[] },
    mark: {
      type: "point",
      filled: true,
      shape,
      size,
      opacity: 1,
      fill,
      stroke: edge,
      strokeWidth: 1.5,
    },
    encoding: { description: { field: "tip", type: "nominal" } },
  };
}

/** A level across the plot, dotted. */
export function level(y: number, colour = "var(--muted)"): Layer {
  return {
    data: { values: [{ y }] },
    mark: { type: "rule", stroke: colour, strokeDash: [2, 3], aria: false },
    encoding: { x: null, y: { field: "y", type: "quantitative" } } as never,
  };
}

/** Words at places, with a halo of paper so that lines do not run through them. */
export function words(
  values: readonly { x: number | string; y: number | string; text: string }[],
  style: {
    align?: "left" | "center" | "right";
    dx?: number;
    dy?: number;
    colour?: string;
    bold?: boolean;
  } = {},
): Layer {
  const { align = "left", dx = 0, dy = 0, colour = "var(--ink)", bold = false } = style;
  const fontWeight = bold ? "bold" : "normal";
  const mark = {
    type: "text",
    align,
    dx,
    dy,
    baseline: "middle",
    fontWeight,
    aria: false,
  } as const;
  const text = { encoding: { text: { field: "text", type: "nominal" } } } as const;
  return {
    data: { values: values as { x: number; y: number; text: string }[] },
    layer: [
      { mark: { ...mark, stroke: "var(--paper)", strokeWidth: 4 }, ...text },
      { mark: { ...mark, color: colour }, ...text },
    ],
  };
}

/** Ticks at the foot of a plot. */
export function rug(xs: readonly number[], height: number, colour: string): Layer {
  return {
    data: { values: xs.map((x) => ({ x, tip: `step ${x} was skipped` })) },
    mark: { type: "rule", stroke: colour, strokeWidth: 2, y: height - 9, y2: height } as never,
    encoding: { y: null, description: { field: "tip", type: "nominal" } } as never,
  };
}

interface Axis {
  title?: string;
  domain?: [number, number];
  /** Whether the domain may grow to round numbers. */
  nice?: boolean;
  values?: number[];
  /** As d3 writes it; "small" for numbers far below 1; "power" for logarithms to base ten. */
  format?: string;
}

/** Zero as 0, all else as 2e-4; of constants alone, for it is run as code. */
const SMALL = "datum.value === 0 ? '0' : format(datum.value, '~e')";

const POWER = "'1e' + format(datum.value, 'd')";

/** Axes over `x` and `y`. */
export function axes(x: Axis, y: Axis): Encoding {
  const labels = (format?: string) =>
    format === "small"
      ? { labelExpr: SMALL }
      : format === "power"
        ? { labelExpr: POWER }
        : format
          ? { format }
          : {};
  const axis = ({ title, domain, nice = false, values, format }: Axis) => ({
    type: "quantitative" as const,
    title: title || null,
    scale: { zero: false, ...(domain ? { domain, nice } : {}) },
    axis: { labelOverlap: true, ...(values ? { values } : {}), ...labels(format) },
  });
  return { x: { field: "x", ...axis(x) }, y: { field: "y", ...axis(y) } };
}

/** The range of numbers with a margin above and below; null where there is none. */
export function rangeOf(values: readonly number[], margin = 0.06): [number, number] | null {
  if (values.length === 0) return null;
  let [low, high] = [Infinity, -Infinity];
  for (const x of values) {
    low = Math.min(low, x);
    high = Math.max(high, x);
  }
  const room = (high - low || Math.abs(high) || 1) * margin;
  return [low - room, high + room];
}
