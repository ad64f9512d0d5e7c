// Bars: GPU memory by what it is for, GPU time by op.
import { MEMORY_CATEGORIES } from "../../../gpu/memory.ts";
import { colourOf, type Figure, table } from "../figure.ts";
import { bytes, count, ms, percent } from "../format.ts";
import { axes } from "../marks.ts";
import { type Layer, plot } from "../plot.ts";
import type { OpTime, Run } from "../read_run.ts";

/** Bytes of each category at the peak, in the order in which they are stacked. */
function memoryOf({ facts }: Run): [category: string, bytes: number][] {
  const at = facts.numbers("memory.peak_bytes").filter(([name, n]) => name !== "total" && n > 0);
  const place = (name: string) =>
    (MEMORY_CATEGORIES as readonly string[]).indexOf(name) + 1 || Infinity;
  return at.sort(([a], [b]) => (place(a) === place(b) ? 0 : place(a) - place(b)));
}

/** All bytes at the peak, or null where the run does not tell. */
export function peakBytes(run: Run): number | null {
  const total =
    run.facts.number("memory.peak_bytes.total") ?? run.facts.number("memory.peak_bytes");
  if (total !== null) return total;
  const parts = memoryOf(run);
  return parts.length > 0 ? parts.reduce((sum, [, n]) => sum + n, 0) : null;
}

/** Bars laid across, one over the other, with their names above them: long names fit on a phone too. */
interface Bar {
  name: string;
  note: string;
  parts: { size: number; colour: string; tip: string }[];
}

const ROW = 40;

function barLayers(bars: readonly Bar[], width: number): Layer[] {
  const y = {
    field: "y",
    type: "quantitative",
    scale: { domain: [0, bars.length * ROW], nice: false, reverse: true },
    axis: null,
  } as never;
  const rects = bars.flatMap(({ parts }, row) => {
    let x = 0;
    return parts.map(({ size, colour, tip }) => {
      const from = x;
      x += size;
      return { x: from, x2: x, y: row * ROW + 20, y2: row * ROW + 35, colour, tip };
    });
  });
  const texts = bars.map(({ name, note }, row) => ({ y: row * ROW + 10, name, note }));
  const text = { type: "text", baseline: "middle", aria: false } as const;
  return [
    {
      data: { values: rects },
      mark: { type: "rect", stroke: "var(--paper)", strokeWidth: 1 },
      encoding: {
        x2: { field: "x2" },
        y,
        y2: { field: "y2" },
        fill: { field: "colour", type: "nominal", scale: null },
        description: { field: "tip", type: "nominal" },
      },
    },
    {
      data: { values: texts },
      layer: [
        {
          mark: { ...text, align: "left", x: 0, limit: width - 110 },
          encoding: { x: null, y, text: { field: "name" } } as never,
        },
        {
          mark: { ...text, align: "right", x: width, color: "var(--muted)" },
          encoding: { x: null, y, text: { field: "note" } } as never,
        },
      ],
    },
  ];
}

function barPlot(alt: string, bars: readonly Bar[]) {
  const most = Math.max(...bars.map(({ parts }) => parts.reduce((sum, { size }) => sum + size, 0)));
  return plot(alt, "half", (width) => ({
    height: bars.length * ROW,
    margin: { left: 2, right: 4, top: 4, bottom: 6 },
    encoding: { x: { ...axes({ title: "", domain: [0, most] }, {}).x, axis: null } as never },
    layer: barLayers(bars, width),
  }));
}

/** Peak GPU memory by category, a bar for each run. */
export async function memoryFigure(runs: readonly Run[]): Promise<Figure | null> {
  const seen = runs
    .map((run) => ({ run, parts: memoryOf(run) }))
    .filter(({ parts }) => parts.length > 0);
  if (seen.length === 0) return null;
  const categories = [...new Set(seen.flatMap(({ parts }) => parts.map(([name]) => name)))];
  const colour = (name: string) => colourOf(categories.indexOf(name));
  const bars = seen.map(({ run, parts }) => ({
    name: runs.length > 1 ? run.name : "at most",
    note: bytes(peakBytes(run)!),
    parts: parts.map(([name, size]) => ({
      size,
      colour: colour(name),
      tip: `${name}: ${bytes(size)}`,
    })),
  }));
  const alt = bars
    .map(({ name, parts }) => `${name}: ${parts.map(({ tip }) => tip).join(", ")}.`)
    .join(" ");
  const cell = (parts: readonly [string, number][], category: string) => {
    const part = parts.find(([name]) => name === category);
    return part ? bytes(part[1]) : "";
  };
  return {
    title: "GPU memory",
    about:
      "What each kind had when all of them together had the most; at the right stands how much that was.",
    size: "half",
    plot: await barPlot(`GPU memory. ${alt}`, bars),
    key: categories.map((name) => ({ name, colour: colour(name), shape: "block" })),
    numbers: table(
      ["for", ...seen.map(({ run }) => (runs.length > 1 ? run.name : "bytes"))],
      categories.map((name) => [name, ...seen.map(({ parts }) => cell(parts, name))]),
    ),
  };
}

const MOST_OPS = 10;

/** GPU time by op, the longest first. */
export async function opsFigure({ ops }: Run): Promise<Figure | null> {
  const all = ops.reduce((sum, op) => sum + op.ms, 0);
  if (!(all > 0)) return null;
  const rest = ops.slice(MOST_OPS).reduce((sum, op) => sum + op.ms, 0);
  const others = { op: `${ops.length - MOST_OPS} others`, ms: rest, calls: null, roofline: null };
  const shown: OpTime[] = [...ops.slice(0, MOST_OPS), ...(rest > 0 ? [others] : [])];
  const tip = (op: OpTime) => `${op.op}: ${ms(op.ms)}, ${percent(op.ms / all)} of the time`;
  const bars = shown.map((op) => ({
    name: op.op,
    note: `${ms(op.ms)} · ${percent(op.ms / all)}`,
    parts: [{ size: op.ms, colour: op === others ? "var(--axis)" : colourOf(0), tip: tip(op) }],
  }));
  return {
    title: "GPU time by op",
    about: `One step under the profiler: ${ms(all)} in ${count(ops.reduce((sum, op) => sum + (op.calls ?? 0), 0))} dispatches.`,
    size: "half",
    plot: await barPlot(`GPU time by op. ${shown.map(tip).join("; ")}.`, bars),
    numbers: table(
      ["op", "calls", "GPU time", "share", "of the best possible"],
      ops.map((op) => [
        op.op,
        op.calls === null ? "" : count(op.calls),
        ms(op.ms),
        percent(op.ms / all),
        op.roofline === null ? "" : percent(op.roofline),
      ]),
    ),
  };
}
