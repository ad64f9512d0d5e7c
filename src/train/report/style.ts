// The page's style: one sheet for light, dark, paper and phones.

/** Colours 1 to 8 are Okabe and Ito's, lightened where the paper is dark. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fff; --tint: #f6f7f9; --ink: #14181f; --muted: #5a6472; --line: #dfe3e8; --grid: #eaedf0; --axis: #b4bcc6;
  --c1: #0072b2; --c2: #d55e00; --c3: #009e73; --c4: #a8508a; --c5: #b77f00; --c6: #6b7280; --c7: #3a9bd6; --c8: #7a5cc0;
  --bad: #b3261e; --mind: #8a5a00; --good: #0b6e4f;
  --low: #edf3f8; --high: #005f9e; --worst: #c9d2dc; --on-low: #14181f; --on-high: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101319; --tint: #181c24; --ink: #e9ecf1; --muted: #a0a9b6; --line: #2b313b; --grid: #232933; --axis: #4d5663;
    --c1: #56b4e9; --c2: #ff8c42; --c3: #2fc99b; --c4: #e58fc4; --c5: #f0c341; --c6: #9aa3b0; --c7: #a5dcff; --c8: #b39df5;
    --bad: #ff8a80; --mind: #f2c063; --good: #5fd3a6;
    --low: #1b2530; --high: #6cc3f5; --worst: #3a4350; --on-low: #e9ecf1; --on-high: #0b0e13;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Open Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1144px; margin: 0 auto; padding: 56px 32px 72px; }
h1, h2, h3, p, ul, dl, dd, figure { margin: 0; padding: 0; }
h1 { font-size: 2.1rem; line-height: 1.2; letter-spacing: -0.02em; font-weight: 680; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; letter-spacing: -0.01em; font-weight: 650; overflow-wrap: anywhere; }
h3 { font-size: 1.02rem; line-height: 1.35; font-weight: 650; }
a { color: var(--c1); }
code, .command { font: 0.86em/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.kicker { color: var(--muted); font-size: 0.82rem; letter-spacing: 0.08em; text-transform: uppercase; margin-bottom: 6px; }
.lead { color: var(--muted); margin-top: 8px; max-width: 76ch; overflow-wrap: anywhere; }
section { margin-top: 48px; }
section > h2 { border-top: 1px solid var(--line); padding-top: 20px; margin-bottom: 4px; }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; margin-top: 32px; background: var(--line); border: 1px solid var(--line);
  border-radius: 10px; overflow: hidden; }
.tiles > div { flex: 1 1 230px; background: var(--paper); padding: 14px 18px 15px; }
.tiles dt { color: var(--muted); font-size: 0.82rem; }
.tiles dd { font-size: 1.42rem; line-height: 1.3; font-weight: 640; letter-spacing: -0.01em; white-space: nowrap; }
.tiles dd + dd { color: var(--muted); font-size: 0.82rem; font-weight: 400; letter-spacing: 0; white-space: normal; }
.findings { list-style: none; margin-top: 28px; display: grid; gap: 10px; }
.findings li { position: relative; background: var(--tint); border-radius: 8px; padding: 11px 18px 11px 44px; font-size: 0.95rem; overflow-wrap: anywhere; }
.findings svg { position: absolute; left: 15px; top: 13px; width: 18px; height: 18px; }
.findings b { font-weight: 650; }
.findings .bad svg, .findings .bad b { color: var(--bad); }
.findings .mind svg, .findings .mind b { color: var(--mind); }
.findings .good svg, .findings .good b { color: var(--good); }
.figures { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 44px 32px; margin-top: 28px; }
figure { grid-column: span 6; min-width: 0; break-inside: avoid; }
figure.third { grid-column: span 2; display: flex; flex-direction: column; }
figure.third .plot { margin-top: auto; padding-top: 10px; }
.halves { grid-column: span 6; columns: 2; column-gap: 32px; }
.halves figure { margin-bottom: 44px; }
.halves figure:last-child { margin-bottom: 0; }
figcaption p { color: var(--muted); font-size: 0.88rem; line-height: 1.45; margin-top: 2px; max-width: 84ch; }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 8px; font-size: 0.86rem; overflow-wrap: anywhere; }
.key li { display: flex; align-items: center; gap: 7px; min-width: 0; }
.key svg { flex: none; }
.plot { margin-top: 10px; }
.plot svg { display: block; max-width: 100%; height: auto; }
.plot svg.narrow { display: none; }
.plot text { font-family: inherit; }
details { margin-top: 8px; font-size: 0.9rem; }
summary { color: var(--muted); cursor: pointer; width: fit-content; }
summary:hover { color: var(--ink); }
.table { overflow-x: auto; margin-top: 10px; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.9rem; line-height: 1.4; min-width: min(100%, 360px); }
th, td { padding: 6px 18px 6px 0; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--grid); white-space: nowrap; font-weight: 400; }
th[scope="row"] { text-align: left; color: var(--muted); }
thead th { color: var(--ink); font-weight: 640; border-bottom-color: var(--axis); }
thead th:first-child { text-align: left; }
td:last-child, th:last-child { padding-right: 2px; }
.compare table { width: 100%; font-size: 0.95rem; line-height: 22px; } /* whole pixels, for a sticky column is painted apart */
.compare th[scope="row"] { position: sticky; left: 0; background: var(--paper); padding-right: 14px; }
.compare thead th { max-width: 15em; white-space: normal; overflow-wrap: anywhere; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 7px; }
td b { font-weight: 680; }
td small { color: var(--muted); font-size: 0.85em; }
.settings { columns: 3 300px; column-gap: 32px; margin-top: 20px; }
.settings table { width: 100%; }
.settings .table { margin-top: 0; }
.settings .group { break-inside: avoid; margin-bottom: 24px; }
.settings td { white-space: normal; overflow-wrap: anywhere; text-align: right; }
.settings th { padding-right: 12px; }
.command { background: var(--tint); border-radius: 8px; padding: 12px 18px; margin-top: 20px; overflow-wrap: anywhere; white-space: pre-wrap; }
details.run { border-top: 1px solid var(--line); margin: 0; padding: 16px 0; font-size: 1rem; }
details.run > summary { color: var(--ink); font-weight: 640; width: auto; overflow-wrap: anywhere; }
details.run > summary small { color: var(--muted); font-weight: 400; margin-left: 8px; }
footer { margin-top: 64px; padding-top: 16px; border-top: 1px solid var(--line); color: var(--muted); font-size: 0.84rem; overflow-wrap: anywhere; }
@media (max-width: 980px) {
  .halves { columns: 1; }
  figure.third { grid-column: span 3; }
}
@media (max-width: 700px) {
  main { padding: 28px 18px 48px; }
  h1 { font-size: 1.6rem; }
  figure.third { grid-column: span 6; }
  .tiles > div { flex-basis: 44%; padding: 11px 14px; }
  .tiles dd { font-size: 1.18rem; }
  .plot svg.wide { display: none; }
  .plot svg.narrow { display: block; }
}
@media print {
  :root { color-scheme: light; }
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 28px; }
  .figures { gap: 24px; }
  .plot svg.wide { display: block; }
  .plot svg.narrow { display: none; }
  figure.third { grid-column: span 2; }
  .halves { columns: 2; }
  figure details { display: none; }
  h2, h3 { break-after: avoid; }
}
`;
