// The space of a sweep: for each setting the values that it may take.
import { ValueError } from "../../gpu/errors.ts";
import { nearest } from "../../lora/nearest.ts";
import type { Draws } from "./draws.ts";

/** What a setting may be: anything that JSON can hold. */
export type Value = string | number | boolean | null | readonly Value[];

/** Values of settings by their dotted paths, such as `training.lr`. */
export type Settings = Readonly<Record<string, Value>>;

const RANGES = ["uniform", "log_uniform", "integer", "log_integer"] as const;

/** Numbers between two bounds, which belong to it. */
export interface Range {
  kind: (typeof RANGES)[number];
  low: number;
  high: number;
  /** How many of them a grid has. */
  points: number;
}

interface Choice {
  kind: "choice";
  values: readonly Value[];
}

export type Dimension = Range | Choice;

/** In the order in which they were declared. */
export type Space = ReadonlyMap<string, Dimension>;

const KEYS = ["choice", ...RANGES, "points"];
const DEFAULT_POINTS = 5;

/**
 * Reads a declared space: by the path of each setting a list of values, or
 * `{ uniform | log_uniform | integer | log_integer: [low, high], points }`, or `{ choice: [values] }`.
 * @param known  paths that a setting may have; absent: any
 * @throws ValueError that names the path and the nearest known one
 */
export function readSpace(declared: unknown, known?: Iterable<string>): Space {
  if (!isObject(declared) || Object.keys(declared).length === 0) {
    const hint = "For instance { lora.r: [4, 8, 16], training.lr: { log_uniform: [1e-4, 1e-2] } }.";
    throw refused("space", "settings by their paths", shown(declared), hint);
  }
  const paths = known && [...known];
  return new Map(
    Object.entries(declared).map(([path, values]) => {
      if (paths && !paths.includes(path)) {
        const hint = `Did you mean ${nearest(path, paths)}?`;
        throw refused(path, "a setting of a run", "an unknown one", hint);
      }
      return [path, dimensionOf(path, values)] as const;
    }),
  );
}

function dimensionOf(path: string, declared: unknown): Dimension {
  if (Array.isArray(declared)) return choiceOf(path, declared);
  if (!isObject(declared)) throw refused(path, "a list of values or a range", shown(declared));
  for (const key of Object.keys(declared)) {
    if (KEYS.includes(key)) continue;
    const hint = `Did you mean ${nearest(key, KEYS)}?`;
    throw refused(path, `one of ${KEYS.join(", ")}`, key, hint);
  }
  const kinds = Object.keys(declared).filter((key) => key !== "points");
  if (kinds.length !== 1) {
    const expected = "a range or a choice, and one only";
    throw refused(path, expected, kinds.join(" and ") || "neither");
  }
  const [kind] = kinds as [Range["kind"] | "choice"];
  if (kind === "choice") return choiceOf(path, declared.choice);
  const { points = DEFAULT_POINTS } = declared;
  if (!Number.isSafeInteger(points) || (points as number) < 1) {
    throw refused(`${path}.points`, "a positive integer", shown(points));
  }
  return rangeOf(path, kind, declared[kind], points as number);
}

function choiceOf(path: string, values: unknown): Choice {
  if (!Array.isArray(values) || values.length === 0) {
    throw refused(path, "a list of values", shown(values));
  }
  const twice = values.find((v, i) => values.findIndex((w) => same(v, w)) < i);
  if (twice !== undefined)
    throw refused(path, "a list of different values", `${shown(twice)} twice`);
  return { kind: "choice", values };
}

function rangeOf(path: string, kind: Range["kind"], bounds: unknown, points: number): Range {
  const isPair = Array.isArray(bounds) && bounds.length === 2 && bounds.every(Number.isFinite);
  if (!isPair) throw refused(path, `${kind}: [low, high]`, shown(bounds));
  const [low, high] = bounds as [number, number];
  if (!(low < high)) throw refused(path, "a range whose low is below its high", shown(bounds));
  if (kind.startsWith("log") && low <= 0) {
    throw refused(path, "a range above 0, for it is logarithmic", shown(bounds));
  }
  if (kind.endsWith("integer") && !(Number.isSafeInteger(low) && Number.isSafeInteger(high))) {
    throw refused(path, "a range between integers", shown(bounds));
  }
  return { kind, low, high, points };
}

/** Where a range lies on the axis on which it is even: logarithms of logarithmic ones, integers with their halves. */
export function axisOf({ kind, low, high }: Range): [low: number, high: number] {
  const half = kind.endsWith("integer") ? 0.5 : 0;
  const [a, b] = [low - half, high + half];
  return kind.startsWith("log") ? [Math.log(a), Math.log(b)] : [a, b];
}

/** A value's place on that axis. */
export function toAxis({ kind }: Range, value: number): number {
  return kind.startsWith("log") ? Math.log(value) : value;
}

/** The value at a place of that axis, to the four digits that a person would write. */
export function fromAxis({ kind, low, high }: Range, place: number): number {
  const value = kind.startsWith("log") ? Math.exp(place) : place;
  const short = kind.endsWith("integer") ? Math.round(value) : Number(value.toPrecision(4));
  return Math.min(high, Math.max(low, short));
}

/** The values of a grid: all of a choice; of a range as many as it says, at even distances. */
export function gridValues(dimension: Dimension): readonly Value[] {
  if (dimension.kind === "choice") return dimension.values;
  const { low, high, points } = dimension;
  const [a, b] = [toAxis(dimension, low), toAxis(dimension, high)];
  const at = (i: number) => (points === 1 ? (a + b) / 2 : a + ((b - a) * i) / (points - 1));
  const values = Array.from({ length: points }, (_, i) => fromAxis(dimension, at(i)));
  return [...new Set(values)];
}

/** A value drawn evenly. */
export function drawValue(dimension: Dimension, draws: Draws): Value {
  if (dimension.kind === "choice") {
    return dimension.values[Math.floor(draws.uniform() * dimension.values.length)]!;
  }
  const [low, high] = axisOf(dimension);
  return fromAxis(dimension, low + (high - low) * draws.uniform());
}

/** Whether a dimension holds a value. */
export function holds(dimension: Dimension, value: Value | undefined): boolean {
  if (dimension.kind === "choice") return dimension.values.some((v) => same(v, value));
  if (typeof value !== "number") return false;
  const fits = value >= dimension.low && value <= dimension.high;
  return fits && (Number.isInteger(value) || !dimension.kind.endsWith("integer"));
}

export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function isObject(x: unknown): x is Record<string, unknown> {
  return typeof x === "object" && x !== null && !Array.isArray(x);
}

const shown = (x: unknown) => (x === undefined ? "none" : JSON.stringify(x));

function refused(arg: string, expected: string, got: string, hint?: string): ValueError {
  return new ValueError({ op: "sweep", arg, expected, got, ...(hint ? { hint } : {}) });
}
