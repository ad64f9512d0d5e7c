// What a WGSL file says of itself: its bindings, its parameters, and the text that the device compiles.
import { LimitError, ValueError } from "../gpu/errors.ts";
import { sources } from "./sources.ts";
import { type Defines, specialize } from "./specialize.ts";

/** A `@group(0)` storage variable. */
export interface Binding {
  name: string;
  index: number;
  writes: boolean;
}

/** A member of `struct Params`. */
export interface Field {
  name: string;
  type: "u32" | "i32" | "f32";
}

/** Shared text, by the names in a first line `// requires: …`. */
const libraries: ReadonlyMap<string, string> = new Map([
  ["threefry", sources["lib/threefry"]],
  ["quantized", sources["lib/quantized"]],
  ["subgroup_tile", sources["lib/subgroup_tile"]],
]);
const PARAMS_LINE = /^var<immediate> +params *: *Params *;/m;
const MAX_PARAM_BYTES = 64;

/** The storage variables by name. */
export function readBindings(source: string): Map<string, Binding> {
  const bindings = new Map<string, Binding>();
  const line =
    /@group\(0\)\s*@binding\((\d+)\)\s*var<storage(?:\s*,\s*(read_write|read))?>\s*(\w+)\s*:/g;
  for (const [, index, access, name] of source.matchAll(line)) {
    bindings.set(name!, { name: name!, index: Number(index), writes: access === "read_write" });
  }
  return bindings;
}

/** The members of `struct Params`; none where the file has no `var<immediate> params: Params;`. */
export function readFields(name: string, source: string): Field[] {
  if (!PARAMS_LINE.test(source)) return [];
  const body = source.match(/struct Params\s*\{([^}]*)\}/)?.[1] ?? "";
  const fields = [...body.matchAll(/^\s*(\w+)\s*:\s*(u32|i32|f32)\s*,/gm)].map(
    ([, field, type]) => ({ name: field!, type: type as Field["type"] }),
  );
  if (fields.length > 0 && fields.length * 4 <= MAX_PARAM_BYTES) return fields;
  throw new LimitError({
    op: name,
    arg: "struct Params",
    expected: "1 to 16 lines `name: u32|i32|f32,`",
    got: `${fields.length}`,
  });
}

function library(name: string, wanted: string): string {
  const text = libraries.get(wanted);
  if (text !== undefined) return text;
  throw new ValueError({
    op: name,
    arg: "// requires:",
    expected: [...libraries.keys()].join(" or "),
    got: wanted,
  });
}

/** The text that the device compiles: defaults replaced, generator added, parameters placed. */
export function complete(
  name: string,
  source: string,
  defines: Defines,
  immediates: boolean,
): string {
  let code = specialize(name, source, defines);
  const required = source.match(/^\/\/ requires: (.*)/)?.[1]?.split(", ") ?? [];
  for (const lib of required) code += library(name, lib);
  if (Object.values(defines).includes("f16")) code = `enable f16;\n${code}`;
  if (immediates) return code;
  return code.replace(PARAMS_LINE, "@group(1) @binding(0) var<uniform> params: Params;");
}
