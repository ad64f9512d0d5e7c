// Figures: a plot with its heading, its key and its numbers.
import { type Html, html, type Part, trusted } from "./html.ts";
import type { DotShape } from "./marks.ts";
import type { Size } from "./plot.ts";

/** A line of a key. `shape` must be told apart without colour too. */
export interface KeyLine {
  name: string;
  colour: string;
  shape: "line" | "faint" | "dot" | "rule" | "block" | DotShape;
}

export interface Figure {
  title: string;
  /** What is drawn, in which unit, and how to read it. */
  about: Part;
  size: Size;
  plot: Html;
  key?: readonly KeyLine[];
  /** The numbers as a table, folded away. */
  numbers?: Html | null;
}

/** Eight colours that all eyes tell apart, after Okabe and Ito, as CSS variables. */
export const colourOf = (i: number): string => `var(--c${(i % 8) + 1})`;

function figure({ title, about, size, plot, key = [], numbers = null }: Figure): Html {
  return html`<figure class="${size}"><figcaption><h3>${title}</h3><p>${about}</p></figcaption>${
    key.length > 0 && html`<ul class="key">${key.map(keyLine)}</ul>`
  }${plot}${numbers && html`<details><summary>The numbers</summary>${numbers}</details>`}</figure>
`;
}

const dotted = (path: string) =>
  `<path d="M1 6h20" stroke-width="2"/><path d="${path}" fill="currentColor" stroke="var(--paper)"/>`;

const SHAPES: Readonly<Record<KeyLine["shape"], string>> = {
  line: '<path d="M1 6h20" stroke-width="2.5"/>',
  faint: '<path d="M1 6h20" stroke-width="1.5" opacity="0.45"/>',
  rule: '<path d="M1 6h20" stroke-width="1.2" stroke-dasharray="2 3"/>',
  dot: '<circle cx="11" cy="6" r="4" fill="currentColor" stroke="none"/>',
  block: '<rect x="4" y="1" width="11" height="10" rx="2" fill="currentColor" stroke="none"/>',
  circle: dotted("M7 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0"),
  square: dotted("M7.5 2.5h7v7h-7z"),
  diamond: dotted("M11 0.8l4.2 5.2-4.2 5.2-4.2-5.2z"),
  "triangle-up": dotted("M11 1.5l4.8 8.5h-9.6z"),
  "triangle-down": dotted("M11 10.5l4.8-8.5h-9.6z"),
  cross: dotted("M9.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z"),
};

function keyLine({ name, colour, shape }: KeyLine): Html {
  const drawn = trusted(SHAPES[shape]);
  return html`<li><svg width="22" height="12" style="color:${colour}" fill="none" stroke="currentColor" aria-hidden="true">${drawn}</svg>${name}</li>`;
}

/** Figures in their order; halves that follow each other share two columns. */
export function figures(list: readonly Figure[]): Html | null {
  if (list.length === 0) return null;
  const groups: Figure[][] = [];
  for (const one of list) {
    const last = groups.at(-1);
    if (one.size === "half" && last?.[0]?.size === "half") last.push(one);
    else groups.push([one]);
  }
  return html`<div class="figures">${groups.map((group) =>
    group[0]!.size === "half"
      ? html`<div class="halves">${group.map(figure)}</div>`
      : group.map(figure),
  )}</div>`;
}

/** A table: numbers to the right, the first column heads its row. */
export function table(head: readonly Part[], rows: readonly (readonly Part[])[]): Html {
  const row = (cells: readonly Part[]) =>
    html`<tr><th scope="row">${cells[0]!}</th>${cells.slice(1).map((cell) => html`<td>${cell}</td>`)}</tr>
`;
  return html`<div class="table"><table><thead><tr>${head.map(
    (cell) => html`<th scope="col">${cell}</th>`,
  )}</tr></thead><tbody>
${rows.map(row)}</tbody></table></div>`;
}
