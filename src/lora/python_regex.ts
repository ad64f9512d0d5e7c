// Regular expressions as PEFT's files hold them, in Python's syntax, for `re.fullmatch`.
import { ValueError } from "../gpu/errors.ts";

/** What Python writes otherwise than JavaScript. Escapes are skipped as they are. */
const REWRITES: readonly [RegExp, string][] = [
  [/^\(\?P</, "(?<"],
  [/^\(\?P=(\w+)\)/, "\\k<$1>"],
  [/^\\A/, "^"],
  [/^\\Z/, "$"],
];

function toJavaScript(source: string): { pattern: string; flags: string } {
  const lead = source.match(/^\(\?([a-z]+)\)/);
  let rest = source.slice(lead?.[0].length ?? 0);
  let pattern = "";
  while (rest) {
    const rewrite = REWRITES.find(([from]) => from.test(rest));
    const taken = rewrite ? rest.match(rewrite[0])![0] : rest.slice(0, rest[0] === "\\" ? 2 : 1);
    pattern += rewrite ? taken.replace(...rewrite) : taken;
    rest = rest.slice(taken.length);
  }
  const flags = (lead?.[1] ?? "").replace(/[au]/g, "");
  return { pattern, flags };
}

/**
 * A test whether a whole text matches, as `re.fullmatch` does.
 * @param arg  the field that holds the expression, for messages
 * @throws ValueError where JavaScript has no such expression
 */
export function fullMatch(arg: string, expression: string | RegExp): (text: string) => boolean {
  const { pattern, flags } =
    typeof expression === "string"
      ? toJavaScript(expression)
      : { pattern: expression.source, flags: expression.flags.replace(/[gy]/g, "") };
  let whole: RegExp;
  try {
    whole = new RegExp(`^(?:${pattern})$`, flags);
  } catch (error) {
    const got = `${expression} (${(error as Error).message})`;
    throw new ValueError({ op: "lora", arg, expected: "a regular expression", got });
  }
  return (text) => whole.test(text);
}

/** A RegExp in Python's syntax, as it goes into a file. */
export function toPython(expression: RegExp): string {
  const flags = expression.flags.replace(/[gyuv]/g, "");
  const source = expression.source
    .replace(/\(\?<(?![=!])/g, "(?P<")
    .replace(/\\k<(\w+)>/g, "(?P=$1)");
  return (flags ? `(?${flags})` : "") + source;
}
