// What a call of attention is asked to do, complete and checked.
import { gpu } from "../gpu/device.ts";
import { ShapeError, ValueError } from "../gpu/errors.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";

const op = "attention";
/** Farther than any key. */
const ANY = 2 ** 30;
/** lavapipe ends all loops of an invocation after 65,535 rounds, and says nothing: so longer walks are split. */
const MOST_ROUNDS = 60_000;

export interface AttentionOptions {
  /** Query i, at position keys − T + i, sees no key after that position. Default: true. */
  causal?: boolean;
  /** Factor of the scores. Default: 1/√d. */
  scale?: number;
  /** How many of the S rows of k and v count, from the first on. Default: S. */
  keys?: number;
  /** Keys that a query sees, its own position included; not causal: as many to each side. Default: all. */
  window?: number | null;
  /** Scores s become softcap · tanh(s/softcap). Default: they stay. */
  softcap?: number | null;
  /** The first key that each query sees, i32 [B, T], or of all of a batch, [B]. Default: 0. */
  starts?: Tensor | null;
  /** The key after the last that each query sees, i32 [B, T] or [B]. Default: `keys`. */
  ends?: Tensor | null;
}

export interface AttentionPlan {
  B: number;
  T: number;
  S: number;
  H: number;
  Hkv: number;
  d: number;
  keys: number;
  scale: number;
  softcap: number | null;
  /** How many keys before its position a query sees, and how many after. */
  before: number;
  after: number;
  starts: Tensor | null;
  ends: Tensor | null;
  /** Rounds that the loops of an invocation may make in one dispatch. */
  rounds: number;
}

/** Checks the arguments and fills in the defaults. */
export function attentionPlan(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
): AttentionPlan {
  const { causal = true, window = null, softcap = null, starts = null, ends = null } = options;
  const [B, T, S, H, Hkv, d] = checkTensors(q, k, v);
  const { keys = S, scale = 1 / Math.sqrt(d) } = options;
  checkKeys(keys, S, T, causal);
  checkNumbers(scale, window, softcap);
  for (const [arg, range] of [["starts", starts] as const, ["ends", ends] as const]) {
    if (range) checkRange(arg, range, B, T);
  }
  const reach = Math.min(window ?? ANY, ANY) - 1;
  const rounds = gpu(op).adapterClass === "lavapipe" ? MOST_ROUNDS : Infinity;
  const sizes = { B, T, S, H, Hkv, d, keys, scale, softcap, rounds };
  return { ...sizes, before: reach, after: causal ? 0 : reach, starts, ends };
}

/**
 * How many pairs of a query and a key that it sees there are in a batch, of some keys and queries. What
 * `starts` and `ends` leave out the GPU alone knows: it is counted.
 */
export function visiblePairs(
  { B, T, H, keys, before, after }: AttentionPlan,
  part: { keys?: readonly [number, number]; queries?: readonly [number, number] } = {},
): number {
  const [firstKey, endKey] = part.keys ?? [0, keys];
  const [firstQuery, endQuery] = part.queries ?? [0, T];
  let pairs = 0;
  for (let i = firstQuery; i < endQuery; i++) {
    const position = keys - T + i;
    const first = Math.max(firstKey, position - before);
    pairs += Math.max(0, Math.min(endKey, position + after + 1) - first);
  }
  return B * H * pairs;
}

/** [B, T, S, H, Hkv, d] of tensors that fit together. */
function checkTensors(q: Tensor, k: Tensor, v: Tensor) {
  checkDType(op, "q", q, "f32");
  checkDType(op, "k", k, "f32");
  checkDType(op, "v", v, "f32");
  checkRank(op, "q", q, 4, "[B, T, H, d]");
  checkRank(op, "k", k, 4, "[B, S, Hkv, d]");
  const [B, T, H, d] = q.shape as [number, number, number, number];
  const [, S, Hkv] = k.shape as [number, number, number, number];
  if (d < 1 || d > 256 || H < 1) {
    const expected = "[B, T, H, d] with H at least 1 and d in 1 … 256";
    throw new ShapeError({ op, arg: "q", expected, got: format(q.shape) });
  }
  checkShapeIs(op, "k", k, [B, S, Hkv, d], "[B, S, Hkv, d]");
  checkShapeIs(op, "v", v, k.shape, "[B, S, Hkv, d]");
  if (Hkv < 1 || H % Hkv !== 0) {
    const expected = `[B, S, Hkv, d] with Hkv a divisor of H = ${H}`;
    throw new ShapeError({ op, arg: "k", expected, got: format(k.shape) });
  }
  return [B, T, S, H, Hkv, d] as const;
}

function checkKeys(keys: number, S: number, T: number, causal: boolean): void {
  if (!Number.isInteger(keys) || keys < 0 || keys > S) {
    const expected = `an integer in [0, ${S}], the rows of k`;
    throw new ValueError({ op, arg: "keys", expected, got: `${keys}` });
  }
  if (causal && T > keys) {
    throw new ValueError({
      op,
      arg: "keys",
      expected: `at least T = ${T}, for query i stands at position keys − T + i`,
      got: `${keys}`,
      hint: "Pass { causal: false } where queries and keys are different sequences.",
    });
  }
}

function checkNumbers(scale: number, window: number | null, softcap: number | null): void {
  if (!Number.isFinite(scale)) {
    throw new ValueError({ op, arg: "scale", expected: "finite", got: `${scale}` });
  }
  if (window !== null && !(Number.isInteger(window) && window > 0)) {
    const expected = "a positive integer, or null for all keys";
    throw new ValueError({ op, arg: "window", expected, got: `${window}` });
  }
  if (softcap !== null && !(Number.isFinite(softcap) && softcap > 0)) {
    const expected = "positive and finite, or null for none";
    throw new ValueError({ op, arg: "softcap", expected, got: `${softcap}` });
  }
}

function checkRange(arg: string, range: Tensor, B: number, T: number): void {
  checkDType(op, arg, range, "i32");
  const fits = range.rank === 1 || (range.rank === 2 && range.shape[1] === T);
  if (fits && range.shape[0] === B) return;
  const expected = `[B] = [${B}] or [B, T] = [${B}, ${T}]`;
  throw new ShapeError({ op, arg, expected, got: format(range.shape) });
}
