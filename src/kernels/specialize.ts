// Replacing the defaults of a WGSL file by name. The file stays complete WGSL; nothing is templated.
import { ValueError } from "../gpu/errors.ts";

/** New values for top-level `const NAME = …;` and `alias NAME = …;` lines. */
export type Defines = Readonly<Record<string, number | string>>;

/**
 * Replaces the values of exactly the named top-level lines.
 * @throws ValueError where the file declares no such name.
 */
export function specialize(name: string, source: string, defines: Defines): string {
  let text = source;
  for (const [key, value] of Object.entries(defines)) {
    const line = new RegExp(`^(const ${key}(?::[^=]+)?|alias ${key}) *= *[^;]+;`, "m");
    if (!line.test(text)) {
      throw new ValueError({
        op: name,
        arg: key,
        expected: `a const or alias of ${name}.wgsl`,
        got: "no such line",
      });
    }
    text = text.replace(line, `$1 = ${value};`);
  }
  return text;
}
