// Curves over the steps of runs: loss, learning rate, gradient norm, time.
import { colourOf, type Figure, type KeyLine, table } from "../figure.ts";
import { lowest } from "../findings.ts";
import { count, loss } from "../format.ts";
import type { Part } from "../html.ts";
import { axes, dots, level, line, type Mark, rangeOf, rug, shapeOf, words } from "../marks.ts";
import { type Layer, plot } from "../plot.ts";
import type { Point, Run, Step } from "../read_run.ts";
import { thin } from "../thin.ts";

const ENOUGH = 700; // points of a curve: more than that no screen shows

const numbers = (steps: readonly Step[], of: (step: Step) => number | null): number[] =>
  steps.flatMap((step) => of(step) ?? []);

function curve(steps: readonly Step[], of: (step: Step) => number | null): Mark[] {
  return thin(steps, ENOUGH, of).map((step) => ({ x: step.step, y: of(step) }));
}

/** Numbers without the one in fifty at each end, which may be far away. */
function usual(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  const cut = Math.floor(sorted.length / 50);
  return sorted.slice(cut, sorted.length - cut);
}

const looks = (points: readonly Point[], name: string): Mark[] =>
  points.map(({ step, loss: y }) => ({
    x: step,
    y,
    tip: `${name}, step ${count(step)}: ${loss(y)}`,
  }));

function lookTable(runs: readonly Run[]) {
  const steps = [...new Set(runs.flatMap(({ valid }) => valid.map(({ step }) => step)))];
  const cell = ({ valid }: Run, step: number): Part => {
    const look = valid.find((one) => one.step === step);
    return look ? loss(look.loss) : "";
  };
  const head = runs.length > 1 ? runs.map(({ name }) => name) : ["validation loss"];
  const rows = steps
    .sort((a, b) => a - b)
    .map((s) => [count(s), ...runs.map((run) => cell(run, s))]);
  return rows.length > 0 ? table(["step", ...head], rows) : null;
}

/** Loss of training and validation, of one run or of several. */
export async function lossFigure(runs: readonly Run[]): Promise<Figure | null> {
  const seen = runs.filter(
    ({ steps, valid }) => numbers(steps, (s) => s.loss).length + valid.length,
  );
  if (seen.length === 0) return null;
  const alone = runs.length === 1;
  const values = seen.flatMap(({ steps, valid }) => [
    ...numbers(steps, (s) => s.smoothed),
    ...valid.map((look) => look.loss),
    ...(alone ? usual(numbers(steps, (s) => s.loss)) : []),
  ]);
  const domain = rangeOf(values)!;
  const last = Math.max(
    ...seen.flatMap(({ steps, valid }) => [steps.at(-1)?.step ?? 0, valid.at(-1)?.step ?? 0]),
  );
  const inside = (marks: Mark[]) =>
    marks.map(({ x, y }) => ({
      x,
      y: y === null ? null : Math.min(domain[1], Math.max(domain[0], y)),
    }));
  const ofRun = (run: Run, height: number): Layer[] => {
    const [training, held] = alone
      ? [colourOf(0), colourOf(1)]
      : Array(2).fill(colourOf(runs.indexOf(run)));
    const marks = looks(run.valid, alone ? "validation" : run.name);
    const skipped = run.steps.filter((step) => step.skipped).map(({ step }) => step);
    return [
      ...(alone
        ? [
            line(inside(curve(run.steps, (s) => s.loss)), {
              colour: training,
              width: 1,
              opacity: 0.3,
            }),
          ]
        : []),
      line(
        curve(run.steps, (s) => s.smoothed),
        alone ? { colour: training } : { colour: training, width: 1.3, opacity: 0.5 },
      ),
      line(marks, { colour: held, width: 2.2 }),
      dots(marks, { colour: held, shape: alone ? "circle" : shapeOf(runs.indexOf(run)) }),
      ...(alone && skipped.length > 0 ? [rug(skipped, height, "var(--bad)")] : []),
    ];
  };
  const best = alone ? lowest(seen[0]!.valid) : null;
  const label = best && { x: best.step, y: best.loss, text: `best ${loss(best.loss)}` };
  const before = alone && seen[0]!.valid[0]?.step === 0 ? seen[0]!.valid[0].loss : null;
  const drawing = (_: number, isNarrow: boolean) => {
    const height = isNarrow ? 240 : 330;
    return {
      height,
      encoding: axes({ title: "step", domain: [0, last], format: "~s" }, { domain }),
      layer: [
        ...(before === null ? [] : [level(before)]),
        ...seen.flatMap((run) => ofRun(run, height)),
        ...(label
          ? [
              dots([{ x: label.x, y: label.y, tip: label.text }], {
                colour: colourOf(1),
                size: 90,
                ring: true,
              }),
              words([label], {
                dy: 18,
                align: label.x > 0.85 * last ? "right" : "center",
                bold: true,
              }),
            ]
          : []),
      ],
    };
  };
  const alt = seen
    .map(
      (run) =>
        `${run.name}: ${spoken(
          "training loss",
          numbers(run.steps, (s) => s.smoothed),
        )}${spoken(
          "validation loss",
          run.valid.map((look) => look.loss),
        )}`,
    )
    .join(" ");
  return {
    title: "Loss",
    about: alone
      ? "Nats per token, by step. Lower is better; where validation turns up while training goes down, the model learns by heart."
      : "Nats per token, by step. Strong lines with dots: validation. Thin lines: training, smoothed.",
    size: "whole",
    plot: await plot(`Loss by step. ${alt}`, "whole", drawing),
    key: alone
      ? keyOfOne(seen[0]!, before)
      : runs.map(({ name }, i) => ({ name, colour: colourOf(i), shape: shapeOf(i) })),
    numbers: lookTable(seen),
  };
}

function keyOfOne(run: Run, before: number | null): KeyLine[] {
  const trained = run.steps.length > 0;
  const [training, held] = [colourOf(0), colourOf(1)];
  return [
    ...(trained
      ? [{ name: "training, each step", colour: training, shape: "faint" } as const]
      : []),
    ...(trained ? [{ name: "training, smoothed", colour: training, shape: "line" } as const] : []),
    ...(run.valid.length > 0 ? [{ name: "validation", colour: held, shape: "dot" } as const] : []),
    ...(before === null
      ? []
      : [{ name: "before training", colour: "var(--muted)", shape: "rule" } as const]),
    ...(run.steps.some((s) => s.skipped)
      ? [{ name: "skipped step", colour: "var(--bad)", shape: "block" } as const]
      : []),
  ];
}

/** From where to where a curve goes, in words. */
function spoken(what: string, values: readonly number[]): string {
  if (values.length === 0) return "";
  return `${what} from ${loss(values[0]!)} to ${loss(values.at(-1)!)}; `;
}

interface Series {
  title: string;
  about: string;
  of: (step: Step) => number | null;
  format: string;
  level?: (run: Run) => number | null;
  /** Whether the odd far value may be cut off. */
  cut?: boolean;
}

const SERIES: readonly Series[] = [
  {
    title: "Learning rate",
    about: "Of the first parameter group.",
    of: (s) => s.lr,
    format: "small",
  },
  {
    title: "Gradient norm",
    about: "Global, before the clip.",
    of: (s) => s.gradNorm,
    format: "~g",
    level: ({ facts }) => facts.number("config.training.clip"),
    cut: true,
  },
  {
    title: "Time per step",
    about: "Milliseconds, without validation.",
    of: (s) => s.stepMs,
    format: "~s",
    cut: true,
  },
];

/** Small plots of what else each step tells. */
export async function stepFigures(runs: readonly Run[]): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const { title, about, of, format, level: levelOf, cut } of SERIES) {
    const seen = runs.filter(({ steps }) => numbers(steps, of).length > 1);
    if (seen.length === 0) continue;
    const all = seen.flatMap(({ steps }) => numbers(steps, of));
    const [, high] = rangeOf(cut ? usual(all) : all)!;
    const top = Math.max(high, 0) || 1;
    const at = levelOf?.(seen[0]!) ?? null;
    const isLevelSeen = at !== null && at <= top;
    const marksOf = (run: Run) =>
      curve(run.steps, of).map(({ x, y }) => ({ x, y: y === null ? null : Math.min(y, top) }));
    const alt = `${title} by step, up to ${all.reduce((a, b) => Math.max(a, b)).toPrecision(3)}.`;
    const layer = [
      ...(isLevelSeen ? [level(at)] : []),
      ...seen.map((run) =>
        line(marksOf(run), {
          colour: colourOf(runs.indexOf(run)),
          width: 1.5,
          opacity: runs.length > 1 ? 0.65 : 1,
        }),
      ),
    ];
    const encoding = axes(
      { title: "step", format: "~s" },
      { domain: [0, top], nice: true, format },
    );
    const drawn = await plot(alt, "third", () => ({ height: 170, layer, encoding }));
    const told = isLevelSeen ? `${about} Dotted: ${at}.` : about;
    figures.push({ title, about: told, size: "third", plot: drawn });
  }
  return figures;
}
