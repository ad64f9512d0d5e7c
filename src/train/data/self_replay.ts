// Self-replay: where no general data is at hand, the base itself writes some, to keep what it knows.
import { FormatError, ValueError } from "../../gpu/errors.ts";
import type { Lora } from "../../lora/lora.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { generateBatchStream } from "../../nn/generate.ts";
import { stopTokens } from "../../nn/generation_config.ts";
import type { Sampling } from "../../nn/sampling.ts";
import { fileExists, readJson, writeFileSafely } from "../../tensor/files.ts";
import { philox4x32 } from "../../tensor/philox.ts";
import { checkLength } from "../evaluate.ts";
import { modelFingerprint } from "../fingerprint.ts";
import { checkCount } from "../rows.ts";
import { ExampleSet } from "./example_set.ts";

export interface SelfReplayOptions {
  /** How many texts. */
  texts: number;
  /** T, tokens of a row: a text ends where the model ends it, or after T + 1, of which the last is only learnt. */
  length: number;
  /** The model's adapters, which are off while the base writes. */
  lora?: Lora;
  /** Default 0. */
  seed?: number;
  /** How tokens are drawn. Default: as the model has them, temperature 1. */
  sampling?: Sampling;
  /** What every text begins with. Default: the token that begins texts; where the model has none, a random one. */
  start?: readonly number[];
  /** Texts at once. Default 16. */
  batch?: number;
  /** Keeps the texts: read where it holds those of this model and these options, and else written. */
  file?: string;
  /** Called after every token with how many are written, of how many at most. May throw, to end it. */
  onToken?: (done: number, most: number) => void;
}

/**
 * Texts that the base draws from itself, all of which is learnt, for rows that are mixed in against forgetting:
 * `new ShuffledRows(rows, { rows: new PackedRows(await selfReplay(model, options), T), share: 0.25 })`.
 * The same seed, batch and device give the same texts.
 * @throws ValueError for counts that are no positive integers and for a start that does not fit, ShapeError for texts longer than the context,
 *   FormatError for a file that is damaged
 * @see Robins 1995, "Catastrophic Forgetting, Rehearsal and Pseudorehearsal"; Sun et al. 2020, arXiv 1909.03329
 */
export async function selfReplay(model: CausalLM, options: SelfReplayOptions): Promise<ExampleSet> {
  const { texts, length, batch = 16, lora, file } = options;
  for (const [arg, n] of Object.entries({ texts, length, batch })) checkCount("selfReplay", arg, n);
  checkLength("selfReplay", "length", { length }, model);
  checkStart(options.start, length, model.sizes.vocabSize);
  const wasEnabled = lora?.enabled ?? false;
  lora?.disable();
  try {
    const kept = file === undefined ? null : await Kept.open(file, model, options);
    const known = await kept?.read();
    const found = known ?? (await write(model, { ...options, batch }));
    if (!known) await kept?.write(found);
    return new ExampleSet(
      found.map((ids) => ({ ids: Int32Array.from(ids), labels: Int32Array.from(ids) })),
    );
  } finally {
    if (wasEnabled) lora?.enable();
  }
}

async function write(
  model: CausalLM,
  {
    texts,
    length,
    batch,
    seed = 0,
    sampling,
    start,
    onToken,
  }: SelfReplayOptions & { batch: number },
): Promise<number[][]> {
  const stop = stopTokens(model);
  const all: number[][] = [];
  let done = 0;
  for (let first = 0; first < texts; first += batch) {
    const starts = Array.from({ length: Math.min(batch, texts - first) }, (_, i) => [
      ...(start ?? startOf(model, seed, first + i)),
    ]);
    const written = starts.map((ids) => [...ids]);
    const room = Math.min(length + 1, model.sizes.maxLength) - starts[0]!.length;
    const [own] = philox4x32([first, 0, 0, 0], [seed >>> 0, WRITTEN]);
    const how = { temperature: 1, ...sampling, maxNewTokens: room, seed: own, stop: [] };
    for await (const tokens of generateBatchStream(model, starts, how)) {
      for (const [row, ids] of written.entries()) {
        const hasEnded = ids.length > starts[row]!.length && stop.includes(ids.at(-1)!);
        if (!hasEnded) ids.push(tokens[row]!);
      }
      done += tokens.length;
      onToken?.(done, texts * room);
      if (written.every((ids) => stop.includes(ids.at(-1)!))) break;
    }
    all.push(...written);
  }
  return all;
}

const WRITTEN = 0x73656c66;

function startOf({ config, generationConfig, sizes }: CausalLM, seed: number, i: number): number[] {
  const { bos_token_id: bos } = { ...config, ...generationConfig } as { bos_token_id?: unknown };
  if (typeof bos === "number" && bos >= 0 && bos < sizes.vocabSize) return [bos];
  const [word] = philox4x32([i, 1, 0, 0], [seed >>> 0, WRITTEN]);
  return [Math.floor((word / 2 ** 32) * sizes.vocabSize)];
}

function checkStart(start: SelfReplayOptions["start"], length: number, vocabSize: number): void {
  if (!start) return;
  const areIds = start.every((id) => Number.isInteger(id) && id >= 0 && id < vocabSize);
  if (areIds && start.length > 0 && start.length <= length) return;
  const expected = `1 to ${length} ids below ${vocabSize}`;
  throw new ValueError({ op: "selfReplay", arg: "start", expected, got: `[${start.join(", ")}]` });
}

/** The file of texts, and of what they are. */
class Kept {
  private constructor(
    private readonly file: string,
    private readonly of: string,
    private readonly vocabSize: number,
  ) {}

  static async open(file: string, model: CausalLM, options: SelfReplayOptions): Promise<Kept> {
    const { texts, length, lora, seed = 0, sampling = {}, start = null, batch = 16 } = options;
    const print = () => modelFingerprint(model, new Set());
    const base = await (lora ? lora.asPlainModel(print) : print());
    const of = JSON.stringify({ base, texts, length, seed, sampling, start, batch });
    return new Kept(file, of, model.sizes.vocabSize);
  }

  /** The texts; null where there are none, or those of another model or other options. */
  async read(): Promise<number[][] | null> {
    const { file, of, vocabSize } = this;
    if (!(await fileExists(file))) return null;
    const json = await readJson(file);
    if (json.of !== of) return null;
    const { texts } = json as { texts: number[][] };
    const isId = (id: unknown) =>
      Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
    if (Array.isArray(texts) && texts.every((ids) => Array.isArray(ids) && ids.every(isId)))
      return texts;
    const expected = `texts of ids below ${vocabSize}`;
    throw new FormatError({
      op: "selfReplay",
      arg: file,
      expected,
      got: "others",
      hint: "Remove it.",
    });
  }

  async write(texts: readonly (readonly number[])[]): Promise<void> {
    const json = { format: 1, of: this.of, texts };
    await writeFileSafely(this.file, `${JSON.stringify(json)}\n`);
  }
}
