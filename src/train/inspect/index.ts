// What a path holds: an adapter, a model, a run, or a file of tensors. Node only.
import { existsSync, readdirSync, statSync } from "node:fs";
import { FormatError } from "../../gpu/errors.ts";
import { type AdapterFacts, inspectAdapter } from "./adapter.ts";
import { inspectModel, type ModelFacts } from "./model.ts";
import { inspectRun, type RunFacts } from "./run.ts";
import { inspectTensors, type TensorsFacts } from "./tensors.ts";

export type { AdapterFacts, AdapterLayerFacts } from "./adapter.ts";
export type { ModelFacts, TargetFacts } from "./model.ts";
export type { RunFacts } from "./run.ts";
export type { TensorFacts, TensorsFacts, TypeFacts } from "./tensors.ts";
export { inspectAdapter, inspectModel, inspectRun, inspectTensors };

export type Facts = AdapterFacts | ModelFacts | RunFacts | TensorsFacts;

/** The file that says what a folder is. */
const MARKS = ["adapter_config.json", "run.json", "config.json"];

/**
 * The facts of whatever lies at a path.
 * @param onProgress  called where it takes long
 * @throws FormatError where nothing is there that is known, or it is damaged
 */
export async function inspect(
  path: string,
  onProgress?: (done: number, of: number) => void | Promise<void>,
): Promise<Facts> {
  const bare = path.replace(/(?<=.)\/+$/, "");
  if (!existsSync(bare)) refuse(bare, "a file or folder that is there", "nothing");
  if (!statSync(bare).isDirectory()) {
    if (bare.endsWith(".safetensors")) return inspectTensors(bare);
    refuse(bare, "a folder, or a .safetensors file", "another file");
  }
  const mark = markOf(bare);
  if (mark === MARKS[0]) return inspectAdapter(bare, onProgress);
  if (mark === MARKS[1]) return inspectRun(bare);
  if (mark === MARKS[2]) return inspectModel(bare);
  if (existsSync(`${bare}/sweep.json`)) {
    const hint = `Its trials are runs, such as ${bare}/trials/0000; lowrank report shows them all.`;
    refuse(bare, "an adapter, a model, a run or a file of tensors", "a sweep", hint);
  }
  const below = readdirSync(bare).filter((name) => markOf(`${bare}/${name}`) !== undefined);
  const hint = below.length > 0 ? `Below it: ${below.map((name) => `${bare}/${name}`).join(", ")}.` : ""; // biome-ignore format: one line
  return refuse(bare, `a folder with ${MARKS.join(", ")}`, "none of them", hint);
}

function markOf(folder: string): string | undefined {
  return MARKS.find((file) => existsSync(`${folder}/${file}`));
}

function refuse(arg: string, expected: string, got: string, hint = ""): never {
  throw new FormatError({ op: "inspect", arg, expected, got, hint });
}
