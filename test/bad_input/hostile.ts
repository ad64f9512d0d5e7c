// Hostile versions of files, made from good ones: a seed gives the same ones each time.
import type { Draw } from "../properties.ts";

/** `count` nested lists, as text: more than a recursive reader survives. */
const deep = (count: number) => "[".repeat(count) + "]".repeat(count);

const VALUES = [
  ..."null true false -1 0 1 0.5 1e308 -1e999 9007199254740993 4294967296".split(" "),
  ...['""', '"x"', '"__proto__"', '"../../etc/passwd"', '"NaN"', "[]", "{}", "[null]", "[[1]]"],
  ...['{"__proto__":{"r":1}}', '{"a":null}', '["q_proj",3]', `"${"y".repeat(5000)}"`, deep(20000)],
];
const KEYS = ["__proto__", "constructor", "hasOwnProperty", "toString", "length", "unknown", ""];

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** They stand in the text where a hostile value and key come: assigned as they are, they would do harm here. */
const [MARK, NEW_KEY] = ["a hostile value", "a hostile key"];

/** One place of a JSON value replaced, taken out, doubled, or given a key that objects inherit. */
function mutateValue(draw: Draw, value: Json): string {
  const copy = structuredClone(value);
  const places: [Json[] | { [key: string]: Json }, string][] = [];
  const walk = (at: Json) => {
    if (typeof at !== "object" || at === null) return;
    for (const key of Object.keys(at)) {
      places.push([at, key]);
      walk((at as { [key: string]: Json })[key]!);
    }
  };
  walk(copy);
  const hostile = draw.pick(VALUES);
  if (places.length === 0 || draw.chance(0.03)) return hostile;
  const [owner, key] = draw.pick(places);
  const at = owner as { [key: string]: Json };
  const how = draw.int(0, 9);
  if (how === 0) delete at[key];
  else at[how === 1 ? NEW_KEY : key] = MARK;
  const text = JSON.stringify(copy).replace(`"${NEW_KEY}"`, JSON.stringify(draw.pick(KEYS)));
  return text.replace(`"${MARK}"`, () => hostile);
}

/** Bytes cut off, flipped, repeated or put in. */
export function mutateBytes(draw: Draw, bytes: Uint8Array, within = bytes.length): Uint8Array {
  const out = Uint8Array.from(bytes);
  const at = draw.int(0, Math.max(0, within - 1));
  switch (draw.int(0, 3)) {
    case 0:
      return out.subarray(0, at);
    case 1:
      out[at] = (out[at] ?? 0) ^ (1 << draw.int(0, 7));
      return out;
    case 2:
      return Uint8Array.from([...out.subarray(0, at), ...out.subarray(at >> 1)]);
    default:
      for (let i = 0; i < draw.int(1, 12); i++) out[draw.int(0, within - 1)] = draw.int(0, 255);
      return out;
  }
}

/** A hostile JSON file. */
export function mutateJson(draw: Draw, text: string): Uint8Array {
  const encoder = new TextEncoder();
  if (draw.chance(0.25)) return mutateBytes(draw, encoder.encode(text));
  return encoder.encode(mutateValue(draw, JSON.parse(text) as Json));
}

/** A hostile safetensors file: its header rewritten, or its bytes spoiled. */
export function mutateSafetensors(draw: Draw, bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = Number(view.getBigUint64(0, true));
  if (draw.chance(0.2)) return mutateBytes(draw, bytes, draw.chance(0.7) ? 8 + length : bytes.length); // biome-ignore format: one line
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  const header = draw.chance(0.3) ? swapped(draw, text) : mutateValue(draw, JSON.parse(text));
  const json = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + json.length + bytes.length - 8 - length);
  const claimed = draw.chance(0.05) ? 2n ** BigInt(draw.int(20, 63)) : BigInt(json.length);
  new DataView(out.buffer).setBigUint64(0, claimed, true);
  out.set(json, 8);
  out.set(bytes.subarray(8 + length), 8 + json.length);
  return out;
}

/** Types, shapes, offsets or names of two tensors exchanged: each is valid, but elsewhere. */
function swapped(draw: Draw, text: string): string {
  const table = JSON.parse(text) as Record<string, Record<string, Json>>;
  const names = Object.keys(table).filter((name) => name !== "__metadata__");
  const [a, b] = draw.shuffle(names) as [string, string];
  const field = draw.pick(["shape", "data_offsets", "dtype", "all"]);
  if (field === "all") [table[a], table[b]] = [table[b]!, table[a]!];
  else if (field === "dtype") table[a]!.dtype = draw.pick(["I32", "F64", "BF16", "BOOL", "X"]);
  else if (field === "shape" && draw.chance(0.5)) (table[a]!.shape as Json[]).reverse();
  else [table[a]![field], table[b]![field]] = [table[b]![field]!, table[a]![field]!];
  return JSON.stringify(table);
}
