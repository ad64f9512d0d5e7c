// A configuration as a file that `lowrank train -c` takes, with a reason behind each setting that has one.
import { existsSync } from "node:fs";
import { writeFileSafely } from "../../tensor/files.ts";
import { optional } from "../optional.ts";
import { configError } from "../recipe/config_error.ts";
import type { RawConfig } from "../recipe/read_config.ts";
import { keysAt } from "../recipe/schema.ts";
import type { Choice } from "./choices.ts";

/**
 * Writes settings as YAML, or as JSON where the file's name ends so; JSON has no place for reasons.
 * @throws ConfigError where there is such a file
 */
export async function writeConfigFile(
  file: string,
  settings: RawConfig,
  choices: readonly Choice[] = [],
): Promise<void> {
  if (existsSync(file)) {
    throw configError({ key: "the file", expected: "one that is not there yet", got: file });
  }
  const sorted = inOrder(settings);
  if (file.endsWith(".json")) return writeFileSafely(file, `${JSON.stringify(sorted, null, 2)}\n`);
  const { Document } = await optional("config", "yaml", () => import("yaml"));
  const document = new Document(sorted);
  for (const { key, why } of choices) {
    const node = document.getIn(key.split("."), true) as { comment?: string | null } | undefined;
    if (node && typeof node === "object") node.comment = ` ${why}`;
  }
  return writeFileSafely(file, document.toString({ lineWidth: 0 }));
}

/** Keys as in the schema; what each section has in the order in which it was set. */
function inOrder(settings: RawConfig): RawConfig {
  const known = keysAt([]).filter((key) => settings[key] !== undefined);
  return Object.fromEntries(known.map((key) => [key, settings[key]]));
}
