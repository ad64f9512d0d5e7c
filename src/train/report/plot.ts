// Plots by Vega-Lite as SVG inside the page, once for a wide screen and once for a narrow one.
import type { TopLevelSpec } from "vega-lite";
import { optional } from "../optional.ts";
import { type Html, html, trusted } from "./html.ts";

type Layered = Extract<TopLevelSpec, { layer: unknown }>;
export type Layer = Layered["layer"][number];
export type Encoding = NonNullable<Layered["encoding"]>;

/** What a plot draws at one size. Margins are fixed, so that plots above each other line up. */
export interface Drawing {
  layer: Layer[];
  encoding?: Encoding;
  height: number;
  margin?: Partial<Margin>;
}

interface Margin {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Widths in pixels: a whole row of the page, half of one, a third, which is also a phone's. */
const WIDTHS = { whole: 1080, half: 524, third: 338 } as const;
export type Size = keyof typeof WIDTHS;

const MARGIN: Margin = { left: 50, right: 16, top: 12, bottom: 40 };

/** Colours are CSS variables, which the page sets for light, dark and paper. */
const CONFIG: NonNullable<Layered["config"]> = {
  aria: true,
  font: "sans-serif",
  view: { stroke: null },
  axis: {
    aria: false,
    domain: false,
    ticks: false,
    gridColor: "var(--grid)",
    labelColor: "var(--muted)",
    labelFontSize: 11.5,
    labelPadding: 7,
    titleColor: "var(--muted)",
    titleFontSize: 11.5,
    titleFontWeight: "normal",
    titlePadding: 8,
    tickCount: 5,
  },
  axisX: {
    grid: false,
    domain: true,
    domainColor: "var(--axis)",
    titleAnchor: "end",
    tickCount: 6,
  },
  axisXQuantitative: {
    labelFlush: false,
    ticks: true,
    tickColor: "var(--axis)",
    tickSize: 4,
    labelPadding: 4,
  },
  text: { color: "var(--ink)", fontSize: 11.5 },
};

/**
 * A plot as SVG.
 * @param alt  what it shows, for those who do not see it
 * @param size  how wide it may be; a narrow screen gets its own drawing
 * @param drawing  the plot for a width in pixels of the plane itself
 */
export async function plot(
  alt: string,
  size: Size,
  drawing: (width: number, isNarrow: boolean) => Drawing,
): Promise<Html> {
  const wide = size === "third" ? null : await svg(alt, "wide", WIDTHS[size], drawing);
  const narrow = await svg(alt, wide ? "narrow" : "", WIDTHS.third, drawing);
  return html`<div class="plot">${wide}${narrow}</div>`;
}

async function svg(
  alt: string,
  name: string,
  full: number,
  drawing: (width: number, isNarrow: boolean) => Drawing,
): Promise<Html> {
  const vega = await optional("report", "vega", () => import("vega"));
  const { compile } = await optional("report", "vega-lite", () => import("vega-lite"));
  const isNarrow = full === WIDTHS.third;
  // A drawing knows its margins, and they decide how wide its plane is.
  const { margin } = drawing(full, isNarrow);
  const padding = { ...MARGIN, ...margin };
  const width = full - padding.left - padding.right;
  const { layer, encoding, height } = drawing(width, isNarrow);
  const spec = {
    width,
    height,
    padding,
    autosize: { type: "none" },
    background: null,
    data: { values: [] },
    layer,
    ...(encoding ? { encoding } : {}),
    config: {
      ...CONFIG,
      axisXQuantitative: { ...CONFIG.axisXQuantitative, tickCount: isNarrow ? 4 : 8 },
    },
  };
  const view = new vega.View(vega.parse(compile(spec as never).spec), { renderer: "none" });
  try {
    return html`<svg${trusted(name && ` class="${name}"`)} role="img" aria-label="${alt}" viewBox="0 0 ${full} ${
      height + padding.top + padding.bottom
    }" width="${full}">${trusted(tidied(await view.toSVG()))}</svg>`;
  } finally {
    view.finalize();
  }
}

/** Vega's SVG without what only its own script needs; names of marks become titles, which show on hover. */
function tidied(svg: string): string {
  return svg
    .replace(/^<svg[^>]*>|<\/svg>$/g, "")
    .replace(/<path class="(?:background|foreground)"[^>]*\/>/g, "")
    .replace(
      /<(path|line|text) aria-label="([^"]*)" role="graphics-symbol"([^>]*)\/>/g,
      (_, tag, title, rest) => `<${tag}${rest}><title>${title}</title></${tag}>`,
    )
    .replace(
      / (?:class|role|aria-[a-z]+|pointer-events|font-family|stroke-miterlimit)="[^"]*"/g,
      "",
    )
    .replace(/<text[^>]* opacity="0"[^>]*>[^<]*<\/text>/g, "")
    .replace(/ (?:opacity="1"|stroke-width="1")/g, "")
    .replace(/ (?:d|transform|[xy]2|width|height)="[^"]*"/g, (numbers) =>
      numbers.replace(/(\.\d{2})\d+/g, "$1"),
    );
}
