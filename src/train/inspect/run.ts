// What a run's folder holds: its summary, and how far its records go.
import { existsSync } from "node:fs";
import { readJson } from "../../tensor/files.ts";
import { readJsonLines } from "../json_lines.ts";

export interface RunFacts {
  kind: "run";
  path: string;
  /** What run.json holds. */
  run: Record<string, unknown>;
  /** The last step in metrics.jsonl, with its loss; null where there is none, a loss that is not finite too. */
  last: { step: number; loss: number | null } | null;
  /** Looks at validation data. */
  looks: number;
  adapter: string | null;
  model: string | null;
  checkpoint: string | null;
}

/**
 * The facts of a run's folder.
 * @throws FormatError where run.json cannot be read
 */
export async function inspectRun(folder: string): Promise<RunFacts> {
  const run = await readJson(`${folder}/run.json`);
  const part = (name: string) => (existsSync(`${folder}/${name}`) ? `${folder}/${name}` : null);
  return {
    kind: "run",
    path: folder,
    run,
    ...(await recordsOf(`${folder}/metrics.jsonl`)),
    adapter: part("adapter"),
    model: part("model"),
    checkpoint: part("checkpoint/last.safetensors"),
  };
}

/** Lines of a run that goes on may be half written: what is no JSON is passed over. */
async function recordsOf(path: string): Promise<Pick<RunFacts, "last" | "looks">> {
  let last: RunFacts["last"] = null;
  let looks = 0;
  if (!existsSync(path)) return { last, looks };
  for (const { kind, step, loss } of (await readJsonLines(path)).lines) {
    if (kind === "step")
      last = { step: Number(step), loss: typeof loss === "number" ? loss : null };
    if (kind === "valid") looks += 1;
  }
  return { last, looks };
}
