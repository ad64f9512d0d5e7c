// Files of measurements: what machine, what device, when, and one row for each thing measured.
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { writeFileSafely } from "../src/tensor/files.ts";

/** Where and when rows were measured. */
export interface Conditions {
  /** Which bench: `ops`, `peers`, `cuda`. */
  bench: string;
  adapter: string;
  driver: string;
  cpu: string;
  cores: number;
  node: string;
  /** When the last of the rows was measured. */
  date: string;
}

export type Results<Row> = Conditions & { rows: Row[] } & Record<string, unknown>;

/** What this process runs on. */
export function conditions(bench: string, adapter: string, driver: string): Conditions {
  const cores = cpus();
  const cpu = cores[0]?.model.trim() ?? process.arch;
  const date = new Date().toISOString();
  return { bench, adapter, driver, cpu, cores: cores.length, node: process.version, date };
}

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
