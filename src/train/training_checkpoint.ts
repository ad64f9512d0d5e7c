// A checkpoint of training: one safetensors file from which a run goes on with the same bits.
//   parameter.<name> · optimizer.<i>.<kind> · best.<name> · losses, grad_norms, step_ms · JSON beside them
import { FormatError } from "../gpu/errors.ts";
import type { Optimizer } from "../nn/optim/index.ts";
import type { RandomState } from "../tensor/philox.ts";
import { type Part, SafetensorsFile, writeSafetensors } from "../tensor/safetensors_file.ts";
import { format, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { BestWeights } from "./best_weights.ts";
import type { Look } from "./fit_options.ts";
import type { History } from "./history.ts";
import type { RandomSource } from "./seat.ts";

const VERSION = 2;
const KEY = "lowrank_training";

/** What a run consists of, and what a checkpoint brings back. */
export interface RunState {
  /** By name. */
  parameters: ReadonlyMap<string, Tensor>;
  optimizer: Optimizer;
  /** Learning rate of each group at the top of the schedule. */
  rates: readonly number[];
  history: History;
  best: BestWeights;
  random: RandomSource;
}

/** What must be equal for a run to go on: JSON by name. */
export type Identity = Readonly<Record<string, unknown>>;

/** The JSON of a checkpoint. Losses stand as text, for JSON knows no NaN. */
interface Notes {
  version: number;
  identity: Identity;
  optimizerSteps: number;
  random: RandomState;
  valid: LookNote[];
  best: LookNote | null;
  skipped: number[];
}

type LookNote = Omit<Look, "loss"> & { loss: string };

/** Writes everything to `path`, which appears whole or stays as it was. */
export async function saveTraining(
  path: string,
  state: RunState,
  identity: Identity,
): Promise<void> {
  const { parameters, optimizer, history, best, random } = state;
  const parts = new Map<string, Part>();
  const names = [...parameters.keys()];
  for (const [name, t] of parameters) parts.set(`parameter.${name}`, partOf(t));
  for (const [i, bytes] of best.bytes.entries()) {
    const { shape } = parameters.get(names[i]!)!;
    parts.set(`best.${names[i]}`, { dtype: "f32", shape, bytes: async () => bytes });
  }
  const { step, tensors } = optimizer.stateDict();
  for (const [name, t] of tensors) parts.set(`optimizer.${name}`, partOf(t));
  for (const [name, values] of Object.entries(history.series())) {
    const bytes = new Uint8Array(Float32Array.from(values).buffer);
    parts.set(name, { dtype: "f32", shape: [values.length], bytes: async () => bytes });
  }
  const notes: Notes = {
    version: VERSION,
    identity,
    optimizerSteps: step,
    random: random.now(),
    valid: history.valid.map(asText),
    best: best.look && asText(best.look),
    skipped: history.skipped,
  };
  try {
    await writeSafetensors(path, parts, { [KEY]: JSON.stringify(notes) });
  } finally {
    for (const t of tensors.values()) t.dispose();
  }
}

/** Writes parameters alone, under their own names. */
export async function saveBest(path: string, { parameters, best }: RunState): Promise<void> {
  const parts = [...parameters].map(([name, { shape }], i) => {
    const part: Part = { dtype: "f32", shape, bytes: async () => best.bytes[i]! };
    return [name, part] as const;
  });
  const { step, loss } = best.look!;
  await writeSafetensors(path, new Map(parts), { step: `${step}`, validation_loss: `${loss}` });
}

/**
 * Brings a run to where it was when it was saved, random numbers included.
 * @throws FormatError for a damaged file, one of another version, model, data or settings; nothing has
 *   changed then
 */
export async function loadTraining(
  path: string,
  state: RunState,
  identity: Identity,
): Promise<void> {
  const file = await SafetensorsFile.open(path);
  const { step: _, tensors } = state.optimizer.stateDict();
  try {
    const notes = notesOf(file, identity);
    const wanted = new Map<string, Tensor>();
    for (const [name, t] of state.parameters) wanted.set(`parameter.${name}`, t);
    for (const [name, t] of tensors) wanted.set(`optimizer.${name}`, t);
    checkTensors(file, wanted);
    const kept = notes.best ? [...state.parameters] : [];
    checkTensors(file, new Map(kept.map(([name, t]) => [`best.${name}`, t])));
    const series: Record<string, ArrayLike<number>> = {};
    for (const name of Object.keys(state.history.series())) {
      series[name] = new Float32Array(await bytesOf(file, name));
    }
    const bytes: Uint8Array<ArrayBuffer>[] = [];
    for (const [name] of kept) {
      bytes.push(new Uint8Array(await bytesOf(file, `best.${name}`)));
    }
    for (const [name, t] of wanted) {
      t.storage.touch();
      await file.fill(t, name);
    }
    state.optimizer.steps = notes.optimizerSteps;
    state.history.restore(series, notes.valid.map(asNumber), notes.skipped);
    state.best.bytes = bytes;
    state.best.look = notes.best && asNumber(notes.best);
    state.random.goOnFrom(notes.random);
  } finally {
    for (const t of tensors.values()) t.dispose();
    await file.close();
  }
}

function partOf(t: Tensor): Part {
  return { dtype: t.dtype, shape: t.shape, bytes: () => t.rawBytes() };
}

const asText = (look: Look): LookNote => ({ ...look, loss: `${look.loss}` });
const asNumber = (note: LookNote): Look => ({ ...note, loss: Number(note.loss) });

async function bytesOf(file: SafetensorsFile, name: string): Promise<ArrayBuffer> {
  const { begin, end } = file.entry(name);
  const all = new Uint8Array(end - begin);
  let at = 0;
  for await (const piece of file.pieces(begin, end)) {
    all.set(piece, at);
    at += piece.length;
  }
  return all.buffer;
}

function notesOf({ path, header }: SafetensorsFile, identity: Identity): Notes {
  const text = header.metadata[KEY];
  if (text === undefined) throw refused(path, "a checkpoint of training", "another file");
  const notes = parsed(path, text);
  if (notes.version !== VERSION) throw refused(path, `of version ${VERSION}`, `${notes.version}`);
  const differing = Object.keys({ ...identity, ...notes.identity }).filter(
    (name) => JSON.stringify(identity[name]) !== JSON.stringify(notes.identity[name]),
  );
  if (differing.length === 0) return notes;
  const list = (from: Identity, which: string) =>
    differing.map((name) => (isHash(from[name]) ? `${which} ${name}` : `${name} ${JSON.stringify(from[name])}`)).join(", "); // biome-ignore format: one line
  const why = differing.includes("model") ? "A model is another one with another r, target_modules, scale or dropout, too. " : ""; // biome-ignore format: one line
  throw refused(path, `of a run with ${list(identity, "the same")}`, list(notes.identity, "other"), why); // biome-ignore format: one line
}

/** What holds fingerprints, which tell people nothing. */
const isHash = (value: unknown) => /[0-9a-f]{16}/.test(JSON.stringify(value) ?? "");

function parsed(path: string, text: string): Notes {
  try {
    return JSON.parse(text) as Notes;
  } catch (error) {
    throw refused(path, "with notes in JSON", (error as Error).message);
  }
}

function checkTensors({ path, header }: SafetensorsFile, wanted: Map<string, Tensor>): void {
  for (const [name, t] of wanted) {
    const entry = header.entries.get(name);
    const fits = entry?.dtype === "F32" && sameShape(entry.shape, t.shape);
    if (fits) continue;
    const got = entry ? `${entry.dtype}${format(entry.shape)}` : "none";
    throw refused(path, `with ${name} of F32${format(t.shape)}`, got);
  }
}

function refused(path: string, expected: string, got: string, why = ""): FormatError {
  const hint = `${why}Nothing was changed. A new run needs a folder of its own.`;
  return new FormatError({ op: "fit", arg: `the checkpoint ${path}`, expected, got, hint });
}
