// Attention: outputs, dispatches. q, y: [B, T, H, d]; k, v: [B, S, Hkv, d]
import { type Gpu, gpu } from "../gpu/device.ts";
import { zeros } from "../tensor/create.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type AttentionPlan, visiblePairs } from "./attention_plan.ts";
import { checkShapeIs } from "./check.ts";
import { copyInto, sliceCopy } from "./copy.ts";
import { ownKernel } from "./kernel.ts";
import { kernelPath } from "./path.ts";

const portable = ownKernel("attention");
const subgroup = ownKernel("attention.subgroup");
const decode = ownKernel("attention.decode");
const FEW_ROWS = 4;

/** The kernels read whole vec4s: vectors of another length are padded with zeros. */
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

type Entry = "attention_forward" | "attention_backward_q" | "attention_backward_kv";
type Tensors = Record<string, Tensor>;

/** How an entry point is launched. */
interface Shape {
  /** Rows, or keys for dk and dv, that a workgroup owns, and how often they are shared out. */
  owned: number;
  shares: number;
  /** Keys, or rows for dk and dv, that a round of the loop walks past, and the rounds of loops within. */
  step: number;
  rounds: number;
  run: (launch: Walked) => void;
}

/** What launches of an entry point differ in. */
interface Walked {
  tensors: Tensors;
  params: Params;
  groups: [number, number, number];
  flops: () => number;
}

type Params = ReturnType<typeof paramsOf> & { part_begin: number; part_end: number };

function paramsOf({ T, S, H, Hkv, keys, scale, softcap, before, after, ...plan }: AttentionPlan) {
  const [starts, ends] = [plan.starts?.rank ?? 0, plan.ends?.rank ?? 0];
  return { T, S, H, Hkv, keys, scale, softcap: softcap ?? 0, before, after, starts, ends };
}

/** Every binding needs a buffer: another stands in for what is absent, which is never read. */
function ranges({ starts, ends }: AttentionPlan, other: Tensor): Tensors {
  return { starts: starts ?? other, ends: ends ?? other };
}

/** Lanes of the device's subgroups where a kernel is written for that many. */
function shuffleLanes({ features, info, adapterClass }: Gpu): 4 | 8 | null {
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  if (adapterClass === "gpu" || !features.has("subgroups") || least !== most) return null;
  return least === 4 || least === 8 ? least : null;
}

function shapeOf(entry: Entry, plan: AttentionPlan): Shape {
  const device = gpu(entry);
  const D4 = Math.ceil(plan.d / 4);
  const CAPPED = String(plan.softcap !== null);
  const lanes = kernelPath() === "plain" ? null : shuffleLanes(device);
  if (lanes) {
    const COLUMNS = columnsOf(D4, lanes);
    const shares = Math.ceil(D4 / (lanes * COLUMNS));
    const rounds = 2 * D4 + 2 * COLUMNS * (lanes + 2) + 12;
    const defines = { LANES: lanes, COLUMNS, CAPPED };
    const run: Shape["run"] = (launch) =>
      subgroup.run(entry, {
        ...launch,
        params: { ...launch.params, D4, shares, columns: COLUMNS },
        defines,
      });
    return { owned: 16, shares, step: 4 * lanes, rounds, run };
  }
  const constants = { LANES: portableLanes(device) };
  const run: Shape["run"] = (launch) =>
    portable.run(entry, { ...launch, constants, defines: { D4, CAPPED } });
  return { owned: constants.LANES, shares: 1, step: 4, rounds: 2 * D4 + 2, run };
}

/** vec4 columns of a lane: at most 4, and few with many lanes, which have fewer registers to spare. */
function columnsOf(D4: number, lanes: 4 | 8): 1 | 2 | 4 {
  if (D4 <= lanes) return 1;
  return lanes === 8 || D4 <= 2 * lanes ? 2 : 4;
}

function portableLanes({ adapterClass, info }: Gpu): number {
  if (adapterClass === "gpu") return 64;
  return info.subgroupMaxSize === 4 ? 4 : 8;
}

/** The parts [begin, end) of `length` keys or queries, `weight` rows each, that fit the loops of a device. */
function parts(
  { rounds }: AttentionPlan,
  shape: Shape,
  length: number,
  weight = 1,
): [number, number][] {
  const rows = Math.floor(rounds / shape.rounds) * shape.step;
  const most = Math.max(1, Math.min(length, Math.floor(rows / weight)));
  const count = Math.max(1, Math.ceil(length / most));
  return Array.from({ length: count }, (_, i) => [i * most, Math.min(length, (i + 1) * most)]);
}

function groupsOf({ B, Hkv }: AttentionPlan, { owned, shares }: Shape, items: number) {
  return [Math.ceil(items / owned) * shares, Hkv, B] as [number, number, number];
}

/** y, and the logarithm of each row's sum of exponentials for the backward pass. */
export function attentionForward(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  plan: AttentionPlan,
): { y: Tensor; lse: Tensor } {
  const entry = "attention_forward";
  const { B, T, H, Hkv, d } = plan;
  const rows = (T * H) / Hkv;
  const wide = padded(q);
  const out = Tensor.empty(entry, wide.shape, "f32");
  const tensors = { q: wide, k: padded(k), v: padded(v), ...ranges(plan, wide), out };
  const empty = () => Tensor.empty(entry, [B, Hkv, rows], "f32");
  if (rows <= FEW_ROWS && decodes(plan)) {
    const lse = empty();
    runDecode({ ...tensors, lse }, plan, rows);
    return { y: unpadded(out, d), lse };
  }
  const shape = shapeOf(entry, plan);
  const groups = groupsOf(plan, shape, rows);
  let before: Tensor | null = null;
  for (const [part_begin, part_end] of parts(plan, shape, plan.keys)) {
    const lse = empty();
    const params = { ...paramsOf(plan), part_begin, part_end };
    const flops = () => 2 * 2 * d * visiblePairs(plan, { keys: [part_begin, part_end] }); // scores, y
    shape.run({ tensors: { ...tensors, lse_in: before ?? wide, lse }, params, groups, flops });
    before?.dispose();
    before = lse;
  }
  return { y: unpadded(out, d), lse: before! };
}

/** Half the invocations for long vectors, so that their sums fit 16 KiB of workgroup memory. */
function decodeDefines({ d, softcap }: AttentionPlan) {
  const D4 = Math.ceil(d / 4);
  return { D4, LANES: D4 > 32 ? 8 : 16, CAPPED: String(softcap !== null) };
}

function decodes(plan: AttentionPlan): boolean {
  const { D4, LANES } = decodeDefines(plan);
  return kernelPath() !== "plain" && Math.ceil(plan.keys / LANES) * (2 * D4 + 1) < plan.rounds;
}

function runDecode(tensors: Tensors, plan: AttentionPlan, rows: number): void {
  const defines = decodeDefines(plan);
  const groups = [rows, plan.Hkv, plan.B] as const;
  const flops = () => 2 * 2 * plan.d * visiblePairs(plan);
  decode.run("attention_decode", { tensors, params: paramsOf(plan), defines, groups, flops });
}

/** What backward needs to know of each row, [B, Hkv, rows, 4]: lse, D = Σ dy·y, and which keys it sees. */
export function attentionBackwardRows(
  dy: Tensor,
  y: Tensor,
  lse: Tensor,
  plan: AttentionPlan,
): Tensor {
  const entry = "attention_backward_rows";
  checkShapeIs(entry, "dy", dy, y.shape);
  const { B, Hkv, d, softcap } = plan;
  const rows = lse.shape[2]!;
  const stats = Tensor.empty(entry, [B, Hkv, rows, 4], "f32");
  const inputs = { dy: padded(dy), y_in: padded(y), lse_in: lse, ...ranges(plan, lse) };
  const LANES = portableLanes(gpu(entry));
  portable.run(entry, {
    tensors: { ...inputs, stats_out: stats },
    params: { ...paramsOf(plan), part_begin: 0, part_end: 0 },
    constants: { LANES },
    defines: { D4: Math.ceil(d / 4), CAPPED: String(softcap !== null) },
    groups: [Math.ceil(rows / LANES), Hkv, B],
    flops: 2 * dy.size,
  });
  return stats;
}

/** dq. */
export function attentionBackwardQ(
  dy: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  stats: Tensor,
  plan: AttentionPlan,
): Tensor {
  const entry = "attention_backward_q";
  const wide = padded(q);
  const out = Tensor.empty(entry, wide.shape, "f32");
  const shape = shapeOf(entry, plan);
  const inputs = { q: wide, k: padded(k), v: padded(v), dy: padded(dy), stats };
  const isPortable = shape.step === 4;
  const tensors = { ...inputs, ...(isPortable ? ranges(plan, stats) : {}), out };
  const groups = groupsOf(plan, shape, (plan.T * plan.H) / plan.Hkv);
  for (const [part_begin, part_end] of parts(plan, shape, plan.keys)) {
    const params = { ...paramsOf(plan), part_begin, part_end };
    // Scores, dy·v, dq.
    const flops = () => 3 * 2 * plan.d * visiblePairs(plan, { keys: [part_begin, part_end] });
    shape.run({ tensors, params, groups, flops });
  }
  return unpadded(out, plan.d);
}

/** dk and dv. Rows past `keys` get zeros. */
export function attentionBackwardKV(
  dy: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  stats: Tensor,
  plan: AttentionPlan,
): { dk: Tensor; dv: Tensor } {
  const entry = "attention_backward_kv";
  const wide = padded(k);
  const out = Tensor.empty(entry, wide.shape, "f32");
  const dv = Tensor.empty(entry, wide.shape, "f32");
  const shape = shapeOf(entry, plan);
  const inputs = { q: padded(q), k: wide, v: padded(v), dy: padded(dy), stats };
  const groups = groupsOf(plan, shape, plan.S);
  for (const [part_begin, part_end] of parts(plan, shape, plan.T, plan.H / plan.Hkv)) {
    const params = { ...paramsOf(plan), part_begin, part_end };
    // Scores, dy·v, dk, dv.
    const flops = () => 4 * 2 * plan.d * visiblePairs(plan, { queries: [part_begin, part_end] });
    shape.run({ tensors: { ...inputs, out, dv }, params, groups, flops });
  }
  return { dk: unpadded(out, plan.d), dv: unpadded(dv, plan.d) };
}
