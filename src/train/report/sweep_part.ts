// The part of the page on a sweep.
import { figures } from "./figure.ts";
import { axesOf } from "./figures/axis.ts";
import { mapFigure } from "./figures/map.ts";
import { settingFigures } from "./figures/one_setting.ts";
import { parallelFigure } from "./figures/parallel.ts";
import { ranked, settingOf } from "./figures/ranked.ts";
import { seedTable, tradeFigure, trialCurvesFigure, trialTable } from "./figures/trials.ts";
import type { Finding } from "./findings.ts";
import { duration, listed, loss } from "./format.ts";
import { type Html, html } from "./html.ts";
import { findingList, type Tile, tileRow } from "./overview.ts";
import type { Sweep } from "./read_sweep.ts";

/** What a sweep found, and how it looks. */
export async function sweepPart(sweep: Sweep): Promise<Html> {
  const { name, facts, trials, varied } = sweep;
  const search = facts.text("sweep.search");
  const weight = facts.number("sweep.forgetting_weight");
  const about = [
    `${trials.length} ${trials.length === 1 ? "trial" : "trials"}`,
    varied.length > 0 && `over ${listed(varied)}`,
    search && `by ${search}`,
    weight && `for the least validation loss + ${weight} × forgetting`,
  ].filter((part) => part);
  const drawn = [
    await parallelFigure(sweep),
    await mapFigure(sweep),
    await trialCurvesFigure(sweep),
    await tradeFigure(sweep),
    ...(await settingFigures(sweep)),
  ].filter((one) => one !== null);
  return html`<header><p class="kicker">Sweep</p><h1>${name}</h1><p class="lead">${about.join(" ")}</p></header>
${tileRow(tilesOf(sweep))}
${findingList(findingsOf(sweep))}
${figures(drawn)}
${sweep.groups.length > 0 && html`<section><h2>Over seeds</h2>${seedTable(sweep)}</section>`}
${trials.length > 0 && html`<section><h2>Trials, the best first</h2>${trialTable(sweep)}</section>`}`;
}

/** The best trial's settings, and how much there was. */
function tilesOf(sweep: Sweep): Tile[] {
  const [best] = ranked(sweep);
  const seconds = sweep.trials.reduce((sum, trial) => sum + (trial.seconds ?? 0), 0);
  const paused = sweep.trials.filter((trial) => trial.paused).length;
  return [
    ...(best ? [["Best objective", loss(best.objective), `trial ${best.name}`] as Tile] : []),
    ...(best
      ? axesOf(sweep.trials, sweep.varied).map(
          (axis): Tile => [axis.name, settingOf(best, axis), "of the best trial"],
        )
      : []),
    ...(seconds > 0 ? [["Time", duration(seconds), "of all trials together"] as Tile] : []),
    ...(paused > 0
      ? [["Paused early", `${paused}`, `of ${sweep.trials.length} trials`] as Tile]
      : []),
  ];
}

/** Trials that failed; a best value at the end of what was tried, for more may lie beyond. */
function findingsOf(sweep: Sweep): Finding[] {
  const failed = sweep.trials.filter(({ stopped }) => stopped === "failed");
  const names = listed(failed.map(({ name }) => name));
  const text = `No result from ${failed.length === 1 ? "trial" : "trials"} ${names}; trials.jsonl says why.`;
  return [
    ...sweep.damage.map((line): Finding => ({ kind: "mind", title: "Damaged file", text: line })),
    ...(failed.length > 0 ? [{ kind: "bad", title: "Failed trials", text } as Finding] : []),
    ...edges(sweep),
  ];
}

function edges(sweep: Sweep): Finding[] {
  const trials = ranked(sweep);
  const [best] = trials;
  if (!best)
    return [
      { kind: "mind", title: "No objective yet", text: "No trial has ended with an objective." },
    ];
  return axesOf(trials, sweep.varied).flatMap(
    ({ key, name, kind, values, text, place }): Finding[] => {
      const value = best.settings[key];
      if (kind === "words" || values.length < 3 || value === undefined) return [];
      const at = place(value);
      if (at > 0.02 && at < 0.98) return [];
      const [end, way] = at >= 0.98 ? ["highest", "higher"] : ["lowest", "lower"];
      return [
        {
          kind: "mind",
          title: `The best ${name} is at the edge`,
          text: `${text(value)} is the ${end} that was tried: a ${way} one may do better still.`,
        },
      ];
    },
  );
}
