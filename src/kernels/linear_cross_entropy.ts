// Cross-entropy of a linear layer, in chunks. x: [N, d], weight: [V, d], bias: [V], targets: [N];
// with a low-rank update s: [N, r], b: [V, r] the logits are x·weightᵀ + bias + s·bᵀ.
// The logits of a chunk are made, folded, turned into their gradient in place, multiplied out, dropped.
import { gpu } from "../gpu/device.ts";
import { ShapeError, ValueError } from "../gpu/errors.ts";
import { zeros } from "../tensor/create.ts";
import { checkIds } from "../tensor/id_range.ts";
import { scope } from "../tensor/scope.ts";
import { format } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { accumulate } from "./accumulate.ts";
import { rowsBetween } from "./axes.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { meanOf } from "./cross_entropy.ts";
import { dealt } from "./dealt.ts";
import { grid, ownKernel } from "./kernel.ts";
import { matmulForward } from "./matmul.ts";
import { foldForward } from "./reduce.ts";

const kernel = ownKernel("linear_cross_entropy");
const op = "linear_cross_entropy";

/** Chunks and blocks begin at multiples of these, so that their memory begins where bindings may. */
const ROW_STEP = 64;
const COLUMN_STEP = 128;
const SCALAR = { F: "f32", U: "u32", WIDTH: "1u", LANES: "0u" };

export interface LinearCrossEntropyPlan {
  ignoreIndex: number;
  reduction: "mean" | "sum";
  /** Rows of a chunk. */
  rows: number;
  /** Columns of a block. */
  columns: number;
  /** Logits l become cap·tanh(l/cap); 0: they stay as they are. */
  softcap: number;
}

/** What is added to the logits: s·bᵀ. */
export interface LogitUpdate {
  /** [N, r] */
  s: Tensor;
  /** [V, r] */
  b: Tensor;
}

/** Which gradients forward computes on its way. */
export interface LinearCrossEntropyWanted {
  x: boolean;
  weight: boolean;
  bias: boolean;
  s: boolean;
  b: boolean;
}

export interface LinearCrossEntropyResult {
  y: Tensor;
  dx: Tensor | null;
  dweight: Tensor | null;
  dbias: Tensor | null;
  ds: Tensor | null;
  db: Tensor | null;
}

/** Throws unless shapes, types and targets fit. */
export function checkLinearCrossEntropy(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  targets: Tensor,
  update: LogitUpdate | null,
  { ignoreIndex, softcap }: Pick<LinearCrossEntropyPlan, "ignoreIndex" | "softcap">,
): void {
  checkDType(op, "x", x, "f32");
  checkDType(op, "weight", weight, "f32", "f16", "bf16");
  checkDType(op, "targets", targets, "i32", "u32");
  checkRank(op, "x", x, 1, "[..., d]", true);
  checkRank(op, "weight", weight, 2, "[V, d]");
  const [V, d] = weight.shape as [number, number];
  if (x.shape[x.rank - 1] !== d) {
    const expected = `[..., d = ${d}], for weight is ${format(weight.shape)}`;
    throw new ShapeError({ op, arg: "x", expected, got: format(x.shape) });
  }
  checkShapeIs(op, "targets", targets, x.shape.slice(0, -1), "[...]");
  if (V === 0 || d === 0) {
    const expected = "[V, d] with both at least 1";
    throw new ShapeError({ op, arg: "weight", expected, got: format(weight.shape) });
  }
  if (!(Number.isFinite(softcap) && softcap >= 0)) {
    const expected = "a positive number, or 0 for none";
    throw new ValueError({ op, arg: "softcap", expected, got: `${softcap}` });
  }
  if (bias) {
    checkDType(op, "bias", bias, "f32");
    checkShapeIs(op, "bias", bias, [V], "[V]");
  }
  if (update) {
    const { s, b } = update;
    checkDType(op, "s", s, "f32");
    checkDType(op, "b", b, "f32");
    checkRank(op, "b", b, 2, "[V, r]");
    checkShapeIs(op, "b", b, [V, Math.max(1, b.shape[1]!)], "[V, r ≥ 1]");
    checkShapeIs(op, "s", s, [...x.shape.slice(0, -1), b.shape[1]!], "[..., r]");
  }
  checkIds(op, "targets", targets, V, ignoreIndex);
}

/**
 * How many logits are made at once: as many as x has elements, so that their memory is small beside
 * what a model keeps, and no more than a binding holds.
 */
export function linearCrossEntropyChunk(
  N: number,
  d: number,
  V: number,
  weightBytes: number,
): { rows: number; columns: number } {
  const { bindingLimit: limit } = gpu(op);
  const steps = Math.max(1, Math.floor((N * d) / V / ROW_STEP));
  const rows = Math.min(steps, Math.max(1, Math.floor(limit / (4 * V * ROW_STEP)))) * ROW_STEP;
  const perColumn = Math.max(4 * Math.min(rows, N), weightBytes / V);
  const most = Math.floor(limit / perColumn / COLUMN_STEP) * COLUMN_STEP;
  return { rows, columns: Math.min(V, most) };
}

/** Throws ValueError unless the sizes of chunks are whole steps. */
export function checkChunk(rows: number, columns: number, V: number): void {
  for (const [arg, n, step] of [
    ["rows", rows, ROW_STEP],
    ["columns", columns, COLUMN_STEP],
  ] as const) {
    if (n > 0 && (n % step === 0 || (arg === "columns" && n === V))) continue;
    throw new ValueError({ op, arg, expected: `a positive multiple of ${step}`, got: `${n}` });
  }
}

/** Columns of the logits that are made together, and where the runs of their rows are noted. */
interface Block {
  first: number;
  columns: number;
  width: 1 | 4;
  /** Runs that share a row; each notes `width` parts. */
  runs: number;
  /** The first of them, in vectors of `width`. */
  part: number;
}

/** Blocks of vec4s first, then, where V is not a multiple of 4, its ragged end. */
function blocksOf(V: number, columns: number): { blocks: Block[]; parts: number; filled: number } {
  const blocks: Block[] = [];
  const mostRuns = gpu(op).adapterClass === "gpu" ? 64 : 8;
  let filled = 0;
  const add = (first: number, end: number, width: 1 | 4) => {
    const runs = Math.min(mostRuns, Math.ceil((end - first) / width / 16));
    blocks.push({ first, columns: end - first, width, runs, part: filled / width });
    filled += runs * width;
  };
  const whole = V % 4 === 0 ? V : V - (V % COLUMN_STEP);
  for (let first = 0; first < whole; first += columns) {
    add(first, Math.min(first + columns, whole), 4);
  }
  if (whole < V) add(whole, V, 1);
  return { blocks, parts: Math.ceil(filled / 4) * 4, filled };
}

/**
 * The loss, and the gradients that are wanted, for a gradient 1 of the loss.
 * @param x  [N, d]
 * @param targets  [N]
 */
export function linearCrossEntropyForward(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  targets: Tensor,
  update: LogitUpdate | null,
  plan: LinearCrossEntropyPlan,
  wanted: LinearCrossEntropyWanted,
): LinearCrossEntropyResult {
  const N = x.shape[0]!;
  const gradients = {
    dx: wanted.x ? zeros(x.shape) : null,
    dweight: wanted.weight ? zeros(weight.shape) : null,
    dbias: wanted.bias && bias ? zeros(bias.shape) : null,
    ds: wanted.s && update ? zeros(update.s.shape) : null,
    db: wanted.b && update ? zeros(update.b.shape) : null,
  };
  const losses = Tensor.empty(op, [N], "f32");
  const count = countOf(targets, plan.ignoreIndex);
  const all = { x, weight, bias, targets, update, losses, count, ...gradients };
  for (let start = 0; start < N; start += plan.rows) {
    chunk(all, plan, start, Math.min(start + plan.rows, N));
  }
  const total = foldForward(op, "sum", losses, { outer: 1, R: N, inner: 1 }, []);
  return { y: plan.reduction === "sum" ? total : meanOf(total, count), ...gradients };
}

interface Everything extends Omit<LinearCrossEntropyResult, "y"> {
  x: Tensor;
  weight: Tensor;
  bias: Tensor | null;
  targets: Tensor;
  update: LogitUpdate | null;
  losses: Tensor;
  count: Tensor;
}

/** How many rows are not ignored. */
function countOf(targets: Tensor, ignore: number): Tensor {
  const counts = Tensor.empty(op, [targets.size], "f32");
  kernel.run("linear_cross_entropy_counts", {
    tensors: { targets, counts },
    params: { ...NO_PARAMS, rows: targets.size, ignore },
    groups: grid(Math.ceil(targets.size / 64)),
  });
  return foldForward(op, "sum", counts, { outer: 1, R: targets.size, inner: 1 }, []);
}

const NO_PARAMS = {
  cap: 0,
  rows: 0,
  columns: 0,
  first: 0,
  V: 0,
  S: 0,
  part: 0,
  parts: 0,
  start: 0,
};

/** Rows start … end − 1: their losses, and their share of every gradient. */
function chunk(all: Everything, plan: LinearCrossEntropyPlan, start: number, end: number): void {
  using _ = scope();
  const { weight, targets, update, losses, count } = all;
  const V = weight.shape[0]!;
  const { blocks, parts, filled } = blocksOf(V, plan.columns);
  const rows = end - start;
  const x = rowsBetween(all.x, start, end); // [rows, d]
  const s = update && rowsBetween(update.s, start, end); // [rows, r]
  const [maxima, sums] = [0, 1].map(() => Tensor.empty(op, [rows, parts], "f32"));
  const [picked, lse] = [0, 1].map(() => Tensor.empty(op, [rows], "f32"));
  const common = { rows, V, parts, start, ignore: plan.ignoreIndex, cap: plan.softcap };
  const CAP = Number(plan.softcap > 0);
  const made = blocks.map((block) => {
    const { first, columns, runs: S, part } = block;
    const W = rowsBetween(weight, first, first + columns);
    const bias = all.bias && rowsBetween(all.bias, first, first + columns);
    const b = update && rowsBetween(update.b, first, first + columns);
    const logits = matmulForward(x, W, {
      transposeB: true,
      ...(bias ? { bias } : {}),
      ...(s && b ? { tail: { p: s, q: b, transposeQ: true } } : {}),
    });
    const launch = {
      params: { ...common, first, columns, S, part },
      constants: { CAP },
      defines: block.width === 4 ? {} : SCALAR,
      groups: grid(Math.ceil((rows * S) / 16)),
    };
    kernel.run("linear_cross_entropy_runs", {
      ...launch,
      tensors: {
        logits,
        logits_f32: logits,
        targets,
        maxima: maxima!,
        sums: sums!,
        picked: picked!,
      },
    });
    return { W, b, logits, launch, first, end: first + columns };
  });
  kernel.run("linear_cross_entropy_rows", {
    tensors: { targets, maxima_in: maxima!, sums_in: sums!, picked_in: picked!, lse: lse!, losses },
    params: { ...NO_PARAMS, ...common, part: filled },
    constants: { CAP },
    groups: grid(Math.ceil(rows / 16)),
  });
  if (!(all.dx || all.dweight || all.dbias || all.ds || all.db)) return;
  for (const { W, b, logits, launch, first, end: last } of made) {
    kernel.run("linear_cross_entropy_gradient", {
      ...launch,
      tensors: { targets, lse_in: lse!, count, dlogits: logits },
      constants: { CAP, MEAN: Number(plan.reduction === "mean") },
      bytes: 2 * logits.bytes,
    });
    const part = (of: Tensor | null, from: number, to: number) => of && rowsBetween(of, from, to);
    addGradients(
      { dlogits: logits, x, W, s, b },
      {
        dx: part(all.dx, start, end),
        dweight: part(all.dweight, first, last),
        dbias: part(all.dbias, first, last),
        ds: part(all.ds, start, end),
        db: part(all.db, first, last),
      },
    );
  }
}

interface Factors {
  dlogits: Tensor;
  x: Tensor;
  W: Tensor;
  s: Tensor | null;
  b: Tensor | null;
}

/** What the logits of some rows and columns add to the gradients. A product with r columns is computed transposed. */
function addGradients(
  { dlogits, x, W, s, b }: Factors,
  { dx, dweight, dbias, ds, db }: Omit<LinearCrossEntropyResult, "y">,
): void {
  if (dx) matmulForward(dlogits, W, { into: dx });
  if (dweight) matmulForward(dlogits, x, { transposeA: true, into: dweight });
  if (dbias) {
    const [R, inner] = dlogits.shape as [number, number];
    accumulate(dbias, foldForward(op, "sum", dlogits, { outer: 1, R, inner }, [inner]));
  }
  const all = { transposeA: true, transposeY: true };
  if (ds && b) matmulForward(b, dlogits, { ...all, transposeB: true, into: ds });
  if (db && s) matmulForward(s, dlogits, { ...all, into: db });
}

/** g · dy, the gradient for a loss whose own gradient is dy []; in place where nobody else needs g. */
export function linearCrossEntropyBackward(dy: Tensor, g: Tensor, inPlace: boolean): Tensor {
  const scaled = inPlace ? g : g.clone();
  const { constants, groups } = dealt(op, Math.ceil(g.size / 4));
  kernel.run("linear_cross_entropy_backward", {
    tensors: { dy, scaled },
    params: { ...NO_PARAMS, rows: g.size, ignore: 0 },
    constants: { DEALT: constants.LANES, ROUNDS: constants.ROUNDS },
    groups,
    bytes: 2 * g.bytes,
  });
  return scaled;
}
