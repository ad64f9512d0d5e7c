// html: HTML and SVG as values that are not strings, so that a string never becomes markup by mistake.

/** Markup. Made by `html`, or by `trusted` from what a library escaped. */
export class Html {
  constructor(readonly markup: string) {}

  toString(): string {
    return this.markup;
  }
}

export type Part = Html | string | number | null | false | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Controls, which HTML forbids, and what turns the direction of the text that follows. */
const UNSEEN = /(?![\t\n\r])[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** A text with signs in the place of what nobody would see. */
const seen = (text: string): string => text.replace(UNSEEN, "\ufffd");

/** A text as it may stand in an element or in a quoted attribute. */
export function escaped(text: string): string {
  return seen(text).replace(/[&<>"']/g, (c) => ENTITIES[c]!);
}

function markupOf(part: Part): string {
  if (part === null || part === false) return "";
  if (part instanceof Html) return part.markup;
  return Array.isArray(part) ? part.map(markupOf).join("") : escaped(String(part));
}

/** A template of markup: strings and numbers in it are escaped, null and false leave nothing, lists are joined. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  const end = strings[parts.length]!;
  return new Html(parts.map((part, i) => strings[i]! + markupOf(part)).join("") + end);
}

/** Markup of a library that escapes what it is given. */
export function trusted(markup: string): Html {
  return new Html(seen(markup));
}
