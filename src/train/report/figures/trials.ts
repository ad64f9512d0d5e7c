// A sweep's trials: their curves, what they forgot, and their numbers.
import { colourOf, type Figure, table } from "../figure.ts";
import { loss } from "../format.ts";
import type { Html } from "../html.ts";
import { axes, dots, line, type Mark, rangeOf } from "../marks.ts";
import { plot } from "../plot.ts";
import type { Sweep, Trial } from "../read_sweep.ts";
import { axesOf } from "./axis.ts";
import { goodness, ranked, type Scored, settingOf, shade } from "./ranked.ts";

/** Validation curves of all trials. */
export async function trialCurvesFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep).filter(({ valid }) => valid.length > 1);
  if (trials.length < 2) return null;
  const good = goodness(trials);
  const values = trials
    .flatMap(({ valid }) => valid.map((look) => look.loss))
    .sort((a, b) => a - b);
  const domain = rangeOf(values.slice(0, Math.ceil(0.98 * values.length)))!;
  const marks = ({ valid }: Scored): Mark[] =>
    valid.map(({ step, loss: y }) => ({ x: step, y: Math.min(y, domain[1]) }));
  const strands = [...trials].reverse().flatMap((trial) => {
    const isBest = trial === trials[0];
    const colour = isBest ? colourOf(1) : shade(good(trial));
    const path = marks(trial);
    return [
      line(path, { colour, width: isBest ? 2.6 : 1.3 }),
      dots(
        path.slice(-1).map((m) => ({ ...m, tip: `trial ${trial.name}` })),
        { colour, size: isBest ? 70 : 26 },
      ),
    ];
  });
  return {
    title: "Validation loss of the trials",
    about:
      "By step. A line that ends early is a trial that was stopped. The stronger its colour, the better; the thick one is the best.",
    size: "half",
    plot: await plot(
      `Validation loss by step of ${trials.length} trials; the best ends at ${loss(trials[0]!.valid.at(-1)!.loss)}.`,
      "half",
      () => ({
        height: 240,
        encoding: axes({ title: "step", format: "~s" }, { domain }),
        layer: strands,
      }),
    ),
  };
}

/** Forgetting over validation loss. */
export async function tradeFigure(sweep: Sweep): Promise<Figure | null> {
  const trials = ranked(sweep);
  const marks = trials.flatMap(
    ({ name, validLoss, forgetting, objective }): (Mark & { y: number })[] =>
      validLoss === null || forgetting === null
        ? []
        : [
            {
              x: validLoss,
              y: forgetting,
              tip: `trial ${name}: validation ${loss(validLoss)}, forgetting ${loss(forgetting)}, objective ${loss(objective)}`,
            },
          ],
  );
  if (marks.length < 3) return null;
  return {
    title: "Learning against forgetting",
    about:
      "Forgetting over validation loss, a dot for each trial. To the left and down is better; the best objective is the large dot.",
    size: "half",
    plot: await plot(
      `Forgetting over validation loss of ${marks.length} trials. Best: ${marks[0]!.tip}.`,
      "half",
      () => ({
        height: 240,
        encoding: axes(
          {
            title: "validation loss",
            domain: rangeOf(
              marks.map(({ x }) => x),
              0.08,
            )!,
          },
          {
            domain: rangeOf(
              marks.map(({ y }) => y),
              0.1,
            )!,
          },
        ),
        layer: [
          dots(marks, { colour: colourOf(0) }),
          dots(marks.slice(0, 1), { colour: colourOf(1), size: 110 }),
        ],
      }),
    ),
  };
}

/** All trials as a table, the best first. */
export function trialTable({ trials, varied }: Sweep): Html {
  const by = axesOf(trials, varied);
  const cell = (value: number | null, how: (x: number) => string) =>
    value === null ? "–" : how(value);
  const ended = ({ stopped, paused }: Trial) => (paused ? "paused" : (stopped ?? "–"));
  return table(
    ["trial", "objective", "valid", "forgetting", ...by.map(({ name }) => name), "steps", "ended"],
    trials.map((trial) => [
      trial.name,
      cell(trial.objective, loss),
      cell(trial.validLoss, loss),
      cell(trial.forgetting, loss),
      ...by.map((axis) => settingOf(trial, axis)),
      cell(trial.steps, String),
      ended(trial),
    ]),
  );
}

/** Means over seeds as a table, the best first. */
export function seedTable({ groups, trials, varied }: Sweep): Html {
  const by = axesOf(trials, varied);
  return table(
    ["trials", ...by.map(({ name }) => name), "mean objective", "deviation"],
    groups.map((group) => {
      const [first] = trials.filter(({ name }) => name === `${group.trials[0]}`);
      const values = by.map((axis) => (first ? settingOf(first, axis) : "–"));
      return [group.trials.join(", "), ...values, loss(group.mean), loss(group.deviation)];
    }),
  );
}
