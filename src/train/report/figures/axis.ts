// The axis of a sweep's setting: numbers by size or by order of magnitude, words side by side.
import { plain } from "../format.ts";
import type { Setting, Trial } from "../read_sweep.ts";

export interface SettingAxis {
  key: string;
  /** The shortest name that no other setting has. */
  name: string;
  kind: "linear" | "log" | "words";
  /** Values that trials have, in order; undefined where a trial lacks the setting. */
  values: Setting[];
  /** Where a value lies between the ends, in [0, 1]. */
  place: (value: Setting) => number;
  text: (value: Setting) => string;
}

/** How a value is written on an axis: numbers with two digits. */
function written(value: Setting): string {
  return typeof value === "number" ? plain(Number(value.toPrecision(2))) : value;
}

const LONGEST = 24;

/** A text that fits beside an axis. */
function short(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
}

/** The axes of settings. */
export function axesOf(trials: readonly Trial[], keys: readonly string[]): SettingAxis[] {
  const last = (key: string) => key.split(".").at(-1)!;
  const isTwice = (key: string) => keys.filter((other) => last(other) === last(key)).length > 1;
  return keys.map((key) => axisOf(key, isTwice(key) ? key : last(key), trials));
}

function axisOf(key: string, name: string, trials: readonly Trial[]): SettingAxis {
  const all = [...new Set(trials.flatMap(({ settings }) => settings[key] ?? []))];
  const isNumeric = all.every((value) => typeof value === "number");
  if (!isNumeric) {
    const values = all.map(String).sort();
    const step = Math.max(values.length - 1, 1);
    const place = (value: Setting) =>
      values.length === 1 ? 0.5 : values.indexOf(String(value)) / step;
    return { key, name, kind: "words", values, place, text: (value) => short(String(value)) };
  }
  const values = (all as number[]).sort((a, b) => a - b);
  const [low, high] = [values[0]!, values.at(-1)!];
  const kind = low > 0 && high / low >= 8 ? "log" : "linear";
  const measure = kind === "log" ? Math.log : (x: number) => x;
  const span = measure(high) - measure(low) || 1;
  const place = (value: Setting) => (measure(Number(value)) - measure(low)) / span;
  return { key, name, kind, values, place, text: written };
}

/** Values to write beside an axis: all where they are few, else its ends and what lies between. */
export function ticksOf({ values, kind }: SettingAxis, most = 6): Setting[] {
  if (kind === "words" || values.length <= most) return values;
  const [low, high] = [values[0] as number, values.at(-1) as number];
  const middle = kind === "log" ? Math.sqrt(low * high) : (low + high) / 2;
  return [low, middle, high];
}
