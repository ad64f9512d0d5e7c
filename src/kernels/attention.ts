// Attention: checks, outputs, dispatches. q, y: [B, T, H, d]; k, v: [B, S, Hkv, d]
import { gpu } from "../gpu/device.ts";
import { LimitError, ShapeError, ValueError } from "../gpu/errors.ts";
import { zeros } from "../tensor/create.ts";
import { format } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { copyInto, sliceCopy } from "./copy.ts";
import { ownKernel } from "./kernel.ts";

const portable = ownKernel("attention");
const subgroup = ownKernel("attention.subgroup");
const decode = ownKernel("attention.decode");
const FEW_ROWS = 4;

/** What one call needs to know, complete and checked. */
export interface AttentionPlan {
  B: number;
  T: number;
  S: number;
  H: number;
  Hkv: number;
  d: number;
  keys: number;
  scale: number;
  causal: boolean;
}

export interface AttentionOptions {
  /** Query i, at position keys − T + i, sees no key after that position. Default: true. */
  causal?: boolean;
  /** Factor of the scores. Default: 1/√d. */
  scale?: number;
  /** How many of the S rows of k and v count, from the first on. Default: S. */
  keys?: number;
}

/** Checks the arguments and fills in the defaults. */
export function attentionPlan(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { causal = true, scale, keys }: AttentionOptions,
): AttentionPlan {
  const op = "attention";
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
  const plan = { B, T, S, H, Hkv, d, keys: keys ?? S, scale: scale ?? 1 / Math.sqrt(d), causal };
  checkKeys(plan);
  return plan;
}

function checkKeys({ T, S, keys, scale, causal }: AttentionPlan): void {
  const op = "attention";
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
  if (!Number.isFinite(scale)) {
    throw new ValueError({ op, arg: "scale", expected: "finite", got: `${scale}` });
  }
}

/** The kernel reads whole vec4s: vectors of another length are padded with zeros. */
function padded(x: Tensor): Tensor {
  const [B, N, heads, d] = x.shape as [number, number, number, number];
  if (d % 4 === 0) return x;
  const wide = zeros([B, N, heads, Math.ceil(d / 4) * 4]);
  copyInto(wide, x, 3, 0);
  return wide;
}

function unpadded(x: Tensor, d: number): Tensor {
  return d % 4 === 0 ? x : sliceCopy(x, 3, 0, d, "attention");
}

/** Runs an entry point that gives `items` rows or keys to the invocations, each of which walks `length`. */
function launch(
  entry: string,
  { B, T, S, H, Hkv, d, keys, scale, causal }: AttentionPlan,
  tensors: Record<string, Tensor>,
  [items, length]: readonly [number, number],
): void {
  const D4 = Math.ceil(d / 4);
  const params = { T, S, H, Hkv, keys, scale, causal: Number(causal) };
  if (subgroupsOfEight(entry)) {
    checkLoops(entry, Math.ceil(length / 8) * (D4 + 9));
    const groups = [Math.ceil(items / 8), Hkv, B] as const;
    const defines = { COLUMNS: Math.ceil(D4 / 8) };
    subgroup.run(entry, { tensors, params: { ...params, D4 }, defines, groups });
    return;
  }
  checkLoops(entry, Math.ceil(length / 4) * (2 * D4 + 1));
  if (entry === "attention_forward" && items <= FEW_ROWS) {
    // Half the invocations for long vectors, so that their sums fit 16 KiB of workgroup memory.
    const defines = { D4, LANES: D4 > 32 ? 8 : 16 };
    decode.run("attention_decode", { tensors, params, defines, groups: [items, Hkv, B] });
    return;
  }
  const { adapterClass, info } = gpu(entry);
  const LANES = adapterClass === "gpu" ? 64 : info.subgroupMaxSize === 4 ? 4 : 8;
  const groups = [Math.ceil(items / LANES), Hkv, B] as const;
  portable.run(entry, { tensors, params, constants: { LANES }, defines: { D4 }, groups });
}

/** lavapipe ends all loops of an invocation after 65,535 rounds, and says nothing. */
function checkLoops(entry: string, rounds: number): void {
  if (rounds < 65_535 || gpu(entry).adapterClass !== "lavapipe") return;
  throw new LimitError({
    op: entry,
    arg: "the length",
    expected: "at most 65,534 rounds of a loop on lavapipe",
    got: `${rounds}`,
    hint: "Attend to fewer keys, or use another device.",
  });
}

function subgroupsOfEight(entry: string): boolean {
  const { features, info } = gpu(entry);
  return features.has("subgroups") && info.subgroupMinSize === 8 && info.subgroupMaxSize === 8;
}

/** y, and the logarithm of each row's sum of exponentials for the backward pass. */
export function attentionForward(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  plan: AttentionPlan,
): { y: Tensor; lse: Tensor } {
  const { B, T, H, Hkv, d } = plan;
  const wide = padded(q);
  const y = Tensor.empty("attention_forward", wide.shape, "f32");
  const lse = Tensor.empty("attention_forward", [B, Hkv, (T * H) / Hkv], "f32");
  const tensors = { q: wide, k: padded(k), v: padded(v), y, lse };
  launch("attention_forward", plan, tensors, [(T * H) / Hkv, plan.keys]);
  return { y: unpadded(y, d), lse };
}

/** dq, and D = Σ dy·y of each row, which the gradients of k and v need. */
export function attentionBackwardQ(
  dy: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  y: Tensor,
  lse: Tensor,
  plan: AttentionPlan,
): { dq: Tensor; dot: Tensor } {
  checkShapeIs("attention_backward_q", "dy", dy, q.shape);
  const wide = padded(q);
  const dq = Tensor.empty("attention_backward_q", wide.shape, "f32");
  const dot = Tensor.empty("attention_backward_q", lse.shape, "f32");
  const inputs = { q: wide, k: padded(k), v: padded(v), dy: padded(dy), y_in: padded(y) };
  const tensors = { ...inputs, lse_in: lse, dq, dot_out: dot };
  launch("attention_backward_q", plan, tensors, [(plan.T * plan.H) / plan.Hkv, plan.keys]);
  return { dq: unpadded(dq, plan.d), dot };
}

/** dk and dv. Rows past `keys` get zeros. */
export function attentionBackwardKV(
  dy: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  lse: Tensor,
  dot: Tensor,
  plan: AttentionPlan,
): { dk: Tensor; dv: Tensor } {
  const wide = padded(k);
  const dk = Tensor.empty("attention_backward_kv", wide.shape, "f32");
  const dv = Tensor.empty("attention_backward_kv", wide.shape, "f32");
  const inputs = { q: padded(q), k: wide, v: padded(v), dy: padded(dy), lse_in: lse, dot_in: dot };
  launch("attention_backward_kv", plan, { ...inputs, dk, dv }, [
    plan.S,
    (plan.T * plan.H) / plan.Hkv,
  ]);
  return { dk: unpadded(dk, plan.d), dv: unpadded(dv, plan.d) };
}
