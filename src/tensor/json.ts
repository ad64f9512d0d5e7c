// What JSON.parse does not tell: a key that stands twice in one object, and nesting that overflows the stack of
// whoever walks the value.

/** More than any file of a model needs. */
const DEEPEST = 128;

/** As JSON.parse. Throws SyntaxError for what is nested deeper than 128 too. */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  let depth = 0;
  for (let at = 0; at < text.length; ) {
    const c = text[at];
    if (c === "{" || c === "[") depth += 1;
    else if (c === "}" || c === "]") depth -= 1;
    if (depth > DEEPEST) throw new SyntaxError(`it is nested more than ${DEEPEST} deep`);
    at = c === '"' ? endOfString(text, at) : at + 1;
  }
  return value;
}

/** The first key that an object of a valid JSON text holds twice, or null. */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = [];
  let at = 0;
  while (at < text.length) {
    const c = text[at];
    if (c === '"') {
      const end = endOfString(text, at);
      const keys = open.at(-1);
      if (keys && /^\s*:/.test(text.slice(end, end + 64))) {
        const key = JSON.parse(text.slice(at, end)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      at = end;
      continue;
    }
    if (c === "{") open.push(new Set());
    else if (c === "[") open.push(null);
    else if (c === "}" || c === "]") open.pop();
    at += 1;
  }
  return null;
}

function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}
