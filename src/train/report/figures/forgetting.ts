// Forgetting: what was learnt on the target against what was lost on general text.
import { colourOf, type Figure, table } from "../figure.ts";
import { count, loss, signed } from "../format.ts";
import { axes, dots, level, line, type Mark, rangeOf, shapeOf, words } from "../marks.ts";
import { plot } from "../plot.ts";
import type { Run } from "../read_run.ts";

interface Place extends Mark {
  y: number;
  step: number;
}

/** Looks at which both losses are known. */
function pathOf({ name, valid, general }: Run): Place[] {
  return valid.flatMap(({ step, loss: x }) => {
    const y = general.find((one) => one.step === step)?.loss;
    const tip = `${name}, step ${count(step)}: target ${loss(x)}, general ${loss(y ?? 0)}`;
    return y === undefined ? [] : [{ x, y, step, tip }];
  });
}

/** General loss over target loss: a path for each run, from before training to its end. */
export async function planeFigure(runs: readonly Run[]): Promise<Figure | null> {
  const paths = runs.map((run) => ({
    run,
    path: pathOf(run),
    colour: colourOf(runs.indexOf(run)),
    shape: shapeOf(runs.indexOf(run)),
  }));
  const seen = paths.filter(({ path }) => path.length > 1);
  if (seen.length === 0) return null;
  const all = seen.flatMap(({ path }) => path);
  const start = seen[0]!.path[0]!;
  const x = rangeOf(
    all.map((place) => place.x),
    0.12,
  )!;
  const y = rangeOf(
    all.map((place) => place.y),
    0.15,
  )!;
  const ends = seen.map(({ run, path }) => {
    const end = path.at(-1)!;
    return { x: end.x, y: end.y, text: runs.length > 1 ? run.name : `step ${count(end.step)}` };
  });
  const drawing = () => ({
    height: 260,
    encoding: axes({ title: "target loss", domain: x }, { domain: y }),
    layer: [
      level(start.y),
      ...seen.flatMap(({ path, colour, shape }) => [
        line(path, { colour, width: 1.8 }),
        dots(path.slice(1, -1), { colour, size: 22 }),
        dots(path.slice(-1), { colour, size: 80, shape }),
        dots(path.slice(0, 1), { colour: "var(--muted)", size: 70, ring: true }),
      ]),
      words([{ x: start.x, y: start.y, text: "base" }], {
        align: "right",
        dx: -9,
        dy: -11,
        colour: "var(--muted)",
      }),
      words(ends, { dx: 9, dy: -11, bold: true }),
    ],
  });
  const alt = seen.map(({ run, path }) => {
    const [a, b] = [path[0]!, path.at(-1)!];
    return `${run.name}: target ${loss(a.x)} to ${loss(b.x)}, general ${loss(a.y)} to ${loss(b.y)}.`;
  });
  return {
    title: "Learning and forgetting",
    about:
      "Loss on general text over loss on the target, both in nats per token. To the left: more learnt. Upwards: more forgotten. The dotted line is the base on general text.",
    size: "half",
    plot: await plot(`General loss over target loss. ${alt.join(" ")}`, "half", drawing),
    key:
      runs.length > 1
        ? seen.map(({ run, colour, shape }) => ({ name: run.name, colour, shape }))
        : [],
    numbers: table(
      ["run", "target", "change", "general", "change"],
      seen.map(({ run, path }) => {
        const [a, b] = [path[0]!, path.at(-1)!];
        return [run.name, loss(b.x), signed(b.x - a.x), loss(b.y), signed(b.y - a.y)];
      }),
    ),
  };
}
