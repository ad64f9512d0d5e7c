// Configurations from files, and values set in them by dotted paths, as flags and sweeps do.
import { nearest } from "../../lora/nearest.ts";
import { reasonOf } from "../../tensor/files.ts";
import { optional } from "../optional.ts";
import { ConfigError, configError } from "./config_error.ts";
import { allKeys } from "./schema.ts";

export type RawConfig = Record<string, unknown>;

/**
 * The object in a YAML or JSON file, not yet checked.
 * @throws ConfigError where the file cannot be read or holds something else, with the line
 */
export async function readConfigFile(file: string): Promise<RawConfig> {
  const { parseDocument } = await optional("config", "yaml", () => import("yaml"));
  const document = parseDocument(await readText(file));
  const [error] = document.errors;
  if (error) {
    const [line] = error.linePos ?? [];
    const where = line ? `${file}, line ${line.line}` : file;
    throw new ConfigError(
      `config: ${where}: ${error.message.split(/ at line |\n/)[0]!.replace(/:$/, "")}.`,
    );
  }
  const value: unknown = document.toJS();
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as RawConfig;
  }
  throw configError({ key: file, expected: "a file of keys and values", got: value });
}

async function readText(file: string): Promise<string> {
  const { readFile } = await import("../../tensor/disk.node.ts");
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const got = reasonOf(error as Error);
    throw new ConfigError({ op: "config", arg: file, expected: "a file that can be read", got });
  }
}

/** Two ways to say one thing: to set one takes the other away. */
const EITHER: Readonly<Record<string, string>> = {
  "training.steps": "epochs",
  "training.epochs": "steps",
};

/**
 * A copy of a configuration with values at dotted paths, such as `{ "training.lr": 1e-3 }`. Undefined ones are
 * passed over. Steps take the place of epochs, and the other way round.
 * @throws ConfigError for a path that there is not, with the nearest
 */
export function withSettings(
  config: object,
  settings: Readonly<Record<string, unknown>>,
): RawConfig {
  const copy = structuredClone(config) as RawConfig;
  for (const [path, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    checkPath(path);
    const keys = path.split(".");
    let at = copy;
    for (const key of keys.slice(0, -1)) {
      if (typeof at[key] !== "object" || at[key] === null) at[key] = {};
      at = at[key] as RawConfig;
    }
    const other = EITHER[path];
    if (other !== undefined && settings[`training.${other}`] === undefined) delete at[other];
    at[keys.at(-1)!] = value;
  }
  return copy;
}

/** Fields of `lora` are PEFT's, and checked with their values. */
function checkPath(path: string): void {
  const known = allKeys();
  if (known.includes(path) || /^lora\.\w+$/.test(path)) return;
  const hint = `Did you mean ${nearest(path, known)}?`;
  throw configError({ key: path, expected: "the path of a key", got: path, hint });
}

/** A value as YAML writes it: `1e-3`, `true`, `[a, b]`; what is nothing else is text. */
export async function parseValue(text: string): Promise<unknown> {
  const { parse } = await optional("config", "yaml", () => import("yaml"));
  try {
    return parse(text);
  } catch {
    return text;
  }
}
