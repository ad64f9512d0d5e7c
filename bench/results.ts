// Files of measurements: what machine, what device, when, and one row for each thing measured.
import { existsSync, readFileSync } from "node:fs";
import { writeFileSafely } from "../src/tensor/files.ts";
import type { Conditions } from "../src/train/bench/timed.ts";

export type Results<Row> = Conditions & { rows: Row[] } & Record<string, unknown>;

/**
 * Writes results. Rows of an earlier run that are not measured anew stay, so that a long bench can be run
 * in parts.
 * @param key  what tells rows apart
 * @throws Error where the file holds another bench or another device's rows
 */
export async function writeResults<Row>(
  file: string,
  results: Results<Row>,
  key: (row: Row) => string,
): Promise<void> {
  const rows = new Map<string, Row>();
  if (existsSync(file)) {
    const old = JSON.parse(readFileSync(file, "utf8")) as Results<Row>;
    for (const name of ["bench", "adapter", "driver", "cpu"] as const) {
      if (old[name] === results[name]) continue;
      throw new Error(
        `bench: ${file} must hold results of ${name} ${JSON.stringify(results[name])}, got ` +
          `${JSON.stringify(old[name])}. Name another file.`,
      );
    }
    for (const row of old.rows) rows.set(key(row), row);
  }
  for (const row of results.rows) rows.set(key(row), row);
  const content = { ...results, rows: [...rows.values()] };
  await writeFileSafely(file, `${JSON.stringify(content, null, 2)}\n`);
}
