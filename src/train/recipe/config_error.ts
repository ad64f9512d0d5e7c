// ConfigError: what is wrong with a configuration, by the path of its key and where that was written.
import { ValueError } from "../../gpu/errors.ts";

/** A configuration cannot be used. The command ends with exit code 2. */
export class ConfigError extends ValueError {}

/** Where the values of a configuration come from, for messages. */
export interface Origin {
  /** The file. */
  file?: string;
  /** The flags that set keys, by the keys' dotted paths: `{ "training.lr": "--lr" }`. */
  flags?: Readonly<Record<string, string>>;
}

/** What is wrong with one key. */
export interface Problem {
  /** Dotted path. */
  key: string;
  expected: string;
  got: unknown;
  hint?: string;
}

/** The error of a problem: `config: training.lr (--lr) must be a number above 0, got -1.` */
export function configError(
  { key, expected, got, hint }: Problem,
  origin: Origin = {},
): ConfigError {
  const facts = { op: "config", arg: key + placeOf(key, origin), expected, got: shown(got) };
  return new ConfigError(hint ? { ...facts, hint } : facts);
}

function placeOf(key: string, { file, flags = {} }: Origin): string {
  const flag = flags[key] ?? flags[key.split(".").slice(0, -1).join(".")];
  const place = flag ?? file;
  return place === undefined ? "" : ` (${place})`;
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = typeof value === "number" ? `${value}` : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
