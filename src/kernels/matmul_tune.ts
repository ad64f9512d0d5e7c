// Measures which matrix product is fastest for the products of a piece of work, and remembers it.
import { gpu } from "../gpu/device.ts";
import { FormatError } from "../gpu/errors.ts";
import { quantize, randn } from "../tensor/create.ts";
import type { DType } from "../tensor/dtype.ts";
import { readJson, writeFileSafely } from "../tensor/files.ts";
import { randomState, setRandomState } from "../tensor/philox.ts";
import { isQuantized } from "../tensor/quantized.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { castTo } from "./cast.ts";
import { matmulForward } from "./matmul.ts";
import { recordMatmuls } from "./matmul_launch.ts";
import {
  forceMatmulVariant,
  type MatmulChoice,
  type MatmulWork,
  matmulCandidates,
  tunedChoices,
  workClass,
} from "./matmul_variant.ts";

/** A winner must be at least this much faster than the choice by rule. */
const MARGIN = 0.95;
const ROUNDS = 5;
const SAMPLE_MS = 5;

/** What was measured for one class of products. */
export interface Tuning {
  work: MatmulWork;
  choice: MatmulChoice;
  /** Milliseconds of each candidate, the rule's own choice first; the wrong ones are left out. */
  times: { choice: MatmulChoice; wallTimeMs: number }[];
}

/**
 * Runs `fn`, then times every kernel that this device has for each new class of matrix products in it.
 * A winner is used from then on, if its result equals that of the choice by rule and it is faster.
 * @param fn  such as one training step; its matrix products are noted as they are recorded
 * @returns what was measured, one entry for each class that was new
 */
export async function tuneMatmul(fn: () => unknown): Promise<Tuning[]> {
  const seen = new Map<string, MatmulWork>();
  const stop = recordMatmuls((work) => {
    const id = workClass(work);
    if (!tunedChoices().has(id) && !seen.has(id)) seen.set(id, work);
  });
  try {
    await fn();
  } finally {
    stop();
  }
  const random = randomState();
  const tunings: Tuning[] = [];
  for (const [id, work] of seen) {
    const tuning = await measure(work);
    tunedChoices().set(id, tuning.choice);
    tunings.push(tuning);
  }
  setRandomState(random);
  return tunings;
}

async function measure(work: MatmulWork): Promise<Tuning> {
  using _ = scope();
  const run = await product(work);
  const candidates = matmulCandidates(work);
  const right = await agreeing(candidates, run, work);
  const samples = right.map(() => [] as number[]);
  const repeats = await repeatsFor(right[0]!, run);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, choice] of right.entries()) {
      samples[i]!.push((await time(choice, run, repeats)) / repeats);
    }
  }
  const times = right.map((choice, i) => ({ choice, wallTimeMs: median(samples[i]!) }));
  const best = times.reduce((a, b) => (b.wallTimeMs < a.wallTimeMs ? b : a));
  const isBetter = best.wallTimeMs < MARGIN * times[0]!.wallTimeMs;
  return { work, choice: (isBetter ? best : times[0]!).choice, times };
}

/** The work on random numbers. */
async function product(work: MatmulWork): Promise<() => Tensor> {
  const { M, N, K, count, transposeA, transposeB, transposeY, dtype } = work;
  const lead = count === 1 ? [] : [count];
  const a = randn([...lead, ...(transposeA ? [K, M] : [M, K])]);
  const b32 = randn([...lead, ...(transposeB ? [N, K] : [K, N])]);
  const b = isQuantized(dtype) ? await quantize(b32, dtype) : castTo(b32, dtype as DType);
  return () => matmulForward(a, b, { transposeA, transposeB, transposeY });
}

/** The candidates whose result is that of the first, within the rounding of their inputs. */
async function agreeing(
  candidates: readonly MatmulChoice[],
  run: () => Tensor,
  { K }: MatmulWork,
): Promise<MatmulChoice[]> {
  const right: MatmulChoice[] = [];
  let expected: ArrayLike<number> | null = null;
  for (const choice of candidates) {
    const got = await result(choice, run);
    expected ??= got;
    const unit = choice.variant === "subgroup_matrix" ? 2 ** -10 : 2 ** -21;
    if (differ(got, expected, 8 * unit * Math.sqrt(K))) continue;
    right.push(choice);
  }
  return right;
}

async function result(choice: MatmulChoice, run: () => Tensor): Promise<ArrayLike<number>> {
  using _ = scope();
  return await forcing(choice, run).data();
}

function differ(a: ArrayLike<number>, b: ArrayLike<number>, bound: number): boolean {
  for (let i = 0; i < a.length; i++) if (!(Math.abs(a[i]! - b[i]!) <= bound)) return true;
  return false;
}

function forcing(choice: MatmulChoice, run: () => Tensor): Tensor {
  forceMatmulVariant(choice.variant, choice.tile);
  try {
    return run();
  } finally {
    forceMatmulVariant(null);
  }
}

async function time(choice: MatmulChoice, run: () => Tensor, repeats: number): Promise<number> {
  const started = performance.now();
  for (let i = 0; i < repeats; i++) forcing(choice, run).dispose();
  await gpu("tune").sync();
  return performance.now() - started;
}

async function repeatsFor(choice: MatmulChoice, run: () => Tensor): Promise<number> {
  const once = await time(choice, run, 1);
  return Math.max(1, Math.min(100, Math.round(SAMPLE_MS / once)));
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

/** What names this device in a file of choices. */
function deviceName(): string {
  const { adapterClass, description } = gpu("tune");
  return `${adapterClass}: ${description}`;
}

/**
 * Writes the choices measured so far for this device into a JSON file, beside those of other devices.
 * @throws FormatError where the file is there but cannot be read as one of choices; it is left as it is
 */
export async function saveTuning(file: string): Promise<void> {
  const { existsSync } = await import("../tensor/disk.node.ts");
  const all = existsSync(file) ? await readJson(file) : {};
  const choices = Object.fromEntries(tunedChoices());
  await writeFileSafely(file, `${JSON.stringify({ ...all, [deviceName()]: choices }, null, 1)}\n`);
}

/**
 * Uses the choices that `saveTuning` wrote for this device, if any.
 * @returns how many there were
 * @throws FormatError where the file is not one of choices; nothing is used then
 */
export async function loadTuning(file: string): Promise<number> {
  const own = (await readJson(file))[deviceName()];
  const choices = Object.entries((own ?? {}) as Record<string, MatmulChoice>);
  const known = ["naive", "register", "subgroup4", "subgroup8", "staged", "subgroup_matrix"];
  for (const [id, choice] of choices) {
    if (known.includes(choice?.variant) && Number.isInteger(choice.tile)) continue;
    const got = JSON.stringify(choice);
    const expected = "{ variant, tile }";
    throw new FormatError({ op: "loadTuning", arg: `${id} in ${file}`, expected, got });
  }
  for (const [id, choice] of choices) tunedChoices().set(id, choice);
  return choices.length;
}

/** Forgets all choices that were measured or loaded. */
export function clearTuning(): void {
  tunedChoices().clear();
}
