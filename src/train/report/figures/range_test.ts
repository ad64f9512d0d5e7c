// The range test by which a run found its learning rate.

import { Facts } from "../facts.ts";
import { colourOf, type Figure, table } from "../figure.ts";
import { loss, plain } from "../format.ts";
import { axes, dots, level, line, type Mark } from "../marks.ts";
import { plot } from "../plot.ts";
import type { Run } from "../read_run.ts";

/** How the loss changed while the rate rose, and which rate was taken; null where none was searched. */
export async function rateFigure({ facts }: Run): Promise<Figure | null> {
  const [found, lowest] = [facts.number("found_rate.lr"), facts.number("found_rate.lowest")];
  const points = pointsOf(facts);
  if (found === null || lowest === null || points.length < 2) return null;
  const least = Math.min(...points.map(({ change }) => change));
  const top = Math.max(-0.3 * least, 0.05);
  const rate = (lr: number) => plain(Number(lr.toPrecision(2)));
  const marks = points.map(
    ({ lr, change }): Mark => ({ x: Math.log10(lr), y: Math.min(change, top) }),
  );
  const taken = { x: Math.log10(found), y: least / 2, tip: `taken: ${rate(found)}` };
  const bottom = { x: Math.log10(lowest), y: least, tip: `lowest at ${rate(lowest)}` };
  const [first, last] = [marks[0]!.x, marks.at(-1)!.x];
  const powers = Array.from({ length: 12 }, (_, i) => i - 10).filter(
    (p) => p >= first && p <= last,
  );
  return {
    title: "Range test",
    about:
      "Change of the loss while the rate rises. Taken is the rate by which half of the fall had come.",
    size: "third",
    plot: await plot(
      `Loss by learning rate: lowest at ${rate(lowest)}, taken ${rate(found)}.`,
      "third",
      () => ({
        height: 170,
        encoding: axes(
          { title: "learning rate", domain: [first, last], values: powers, format: "power" },
          { domain: [1.1 * least, top] },
        ),
        layer: [
          level(0),
          line(marks, { colour: colourOf(0), width: 1.8 }),
          dots([bottom], { colour: colourOf(0), ring: true, size: 60 }),
          dots([taken], { colour: colourOf(1), size: 95 }),
        ],
      }),
    ),
    numbers: table(
      ["rate", "change"],
      points.map(({ lr, change }) => [rate(lr), loss(change)]),
    ),
  };
}

function pointsOf(facts: Facts): { lr: number; change: number }[] {
  const listed = facts.at("found_rate.points");
  return (Array.isArray(listed) ? listed : []).flatMap((one) => {
    const point = new Facts(one as Record<string, unknown>);
    const [lr, change] = [point.number("lr"), point.number("change")];
    return lr === null || lr <= 0 || change === null ? [] : [{ lr, change }];
  });
}
