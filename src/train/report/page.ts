// The page: one file that needs nothing else, and may run nothing.
import { comparison, differences } from "./compare.ts";
import { figures } from "./figure.ts";
import { memoryFigure, opsFigure } from "./figures/bars.ts";
import { lossFigure, stepFigures } from "./figures/curves.ts";
import { planeFigure } from "./figures/forgetting.ts";
import { rateFigure } from "./figures/range_test.ts";
import { spectrumFigure } from "./figures/spectrum.ts";
import { type Finding, findingsOf } from "./findings.ts";
import { listed, moment } from "./format.ts";
import { type Html, html, type Part } from "./html.ts";
import { findingList, lead, settings, tiles } from "./overview.ts";
import type { Run } from "./read_run.ts";
import type { Sweep } from "./read_sweep.ts";
import { STYLE } from "./style.ts";
import { sweepPart } from "./sweep_part.ts";

/** What a report is about. */
export interface Subject {
  runs: Run[];
  sweeps: Sweep[];
}

/** No script, no network, no frame: a hostile name could do nothing even if it got out of its quotes. */
const POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 3c2 8 5 9 12 10' fill='none' stroke='%230072b2' stroke-width='2.5' stroke-linecap='round'/%3E%3C/svg%3E";

/**
 * The report as an HTML document.
 * @param now  the moment written at its foot
 */
export async function page({ runs, sweeps }: Subject, now = new Date()): Promise<string> {
  const [first] = runs;
  const names = [...runs, ...sweeps].map(({ name }) => name);
  const parts: Part[] = [];
  if (runs.length === 1) parts.push(await oneRun(first!));
  if (runs.length > 1) parts.push(await manyRuns(runs));
  for (const sweep of sweeps) parts.push(await sweepPart(sweep));
  const foot = `Made by lowrank on ${moment(now)} from ${listed([...runs, ...sweeps].map(({ folder }) => folder))}.`;
  const body = html`<main>
${parts}
<footer>${foot}</footer>
</main>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${html`${names.join(", ")} · lowrank`}</title>
<link rel="icon" href="${ICON}">
<style>${STYLE}</style>
</head>
<body>
${body}
</body>
</html>
`;
}

async function oneRun(run: Run): Promise<Html> {
  return html`<header><p class="kicker">Training run</p><h1>${run.name}</h1><p class="lead">${lead(run)}</p></header>
${await inside(run)}`;
}

/** All that there is on one run. */
async function inside(run: Run): Promise<Html> {
  const drawn = [
    await lossFigure([run]),
    ...(await stepFigures([run])),
    await rateFigure(run),
    await planeFigure([run]),
    await memoryFigure([run]),
    await opsFigure(run),
    await spectrumFigure(run.learnt),
  ].filter((one) => one !== null);
  const record = settings(run);
  return html`${tiles(run)}
${findingList(findingsOf(run))}
${figures(drawn)}
${record.markup !== "" && html`<section><h2>Settings</h2>${record}</section>`}`;
}

async function manyRuns(runs: readonly Run[]): Promise<Html> {
  const drawn = [
    await lossFigure(runs),
    await planeFigure(runs),
    await memoryFigure(runs),
    ...(await stepFigures(runs)),
  ].filter((one) => one !== null);
  const findings = runs.flatMap((run) =>
    findingsOf(run).map((one): Finding => ({ ...one, title: `${run.name}: ${one.title}` })),
  );
  const differ = differences(runs);
  const details: Html[] = [];
  for (const run of runs) {
    details.push(html`<details class="run"><summary>${run.name} <small>${lead(run)}</small></summary>${await inside(run)}</details>
`);
  }
  return html`<header><p class="kicker">Comparison</p><h1>${listed(runs.map(({ name }) => name))}</h1></header>
${comparison(runs)}
${figures(drawn)}
${findings.length > 0 && html`<section><h2>What stands out</h2>${findingList(findings)}</section>`}
${differ && html`<section><h2>Settings that differ</h2>${differ}</section>`}
<section><h2>Each run</h2>${details}</section>`;
}
