// Launches a matrix product: one function per variant, and how long sums are split.
import { type Gpu, gpu } from "../gpu/device.ts";
import { dropThreshold } from "../tensor/philox.ts";
import { Tensor } from "../tensor/tensor.ts";
import { accumulate } from "./accumulate.ts";
import { grid, ownKernel } from "./kernel.ts";
import type { MatmulOptions } from "./matmul.ts";
import { chooseVariant, type MatmulChoice, type MatmulWork } from "./matmul_variant.ts";
import type { NamedScalars } from "./params.ts";
import { foldForward } from "./reduce.ts";

const kernels = {
  naive: ownKernel("matmul.naive"),
  register: ownKernel("matmul.register"),
  staged: ownKernel("matmul.staged"),
  subgroup4: ownKernel("matmul.subgroup4"),
  subgroup8: ownKernel("matmul.subgroup8"),
  subgroup_matrix: ownKernel("matmul.subgroup_matrix"),
};

const DTYPES: Record<string, number> = { f32: 0, f16: 1, bf16: 2, int8: 3, nf4: 4 };
/** lavapipe ends loops after 65,535 rounds in all; longer sums are split. */
const MOST_ROUNDS = 60_000;
/** Rounds that a subgroup kernel draws in for four terms of what is dropped from, where its rows are no whole vec4. */
const RAGGED_DRAWS = 16;
/** Workgroups that keep a GPU busy; products with fewer tiles split their sums. */
const BUSY_GROUPS = 256;
const LEAST_SLICE = 256;

/** The sizes of one launch. */
export interface Sizes {
  M: number;
  N: number;
  K: number;
  /** Number of matrices. */
  count: number;
  /** Elements from one matrix to the next; 0 where one serves all. */
  aBatch: number;
  bBatch: number;
}

/** One launch, whatever the variant. */
interface Work {
  a: Tensor;
  b: Tensor;
  y: Tensor;
  sizes: Sizes;
  options: MatmulOptions;
  /** Terms of the sum that one workgroup adds up, and how many parts that makes. */
  slice: number;
  splits: number;
}

/**
 * Computes a product whose arguments were checked.
 * @returns [..., M, N] as `shape` says, or `options.into`, or `options.out`
 */
export function launchMatmul(
  a: Tensor,
  b: Tensor,
  shape: readonly number[],
  sizes: Sizes,
  options: MatmulOptions,
): Tensor {
  const { M, N, K, count } = sizes;
  const { transposeA = false, transposeB = false, transposeY = false, into, out } = options;
  const aligned = isAligned(b, sizes, options);
  const layout = { transposeA, transposeB, transposeY, dtype: b.dtype };
  const chosenBy = options.eachAsAlone ? { ...sizes, count: 1 } : sizes;
  const work = { M, N, K, count: chosenBy.count, ...layout, aligned };
  recorder?.(work);
  const choice = fitting(chooseVariant(work), chosenBy, options);
  const slice = sliceOf(choice, chosenBy, options);
  const splits = Math.max(1, Math.ceil(K / slice));
  if (splits === 1) {
    const y = into ?? out ?? Tensor.empty("matmul", shape, "f32");
    run(choice, { a, b, y, sizes, options, slice, splits });
    return y;
  }
  const parts = Tensor.empty("matmul", [count, splits, M, N], "f32");
  const { into: _, ...own } = options;
  run(choice, { a, b, y: parts, sizes, options: own, slice, splits });
  const fold = { outer: count, R: splits, inner: M * N };
  const sum = foldForward("matmul", "sum", parts, fold, shape);
  parts.dispose();
  if (!into && !out) return sum;
  if (into) accumulate(into, sum);
  else copyOver(sum, out!);
  sum.dispose();
  return into ?? out!;
}

function copyOver({ storage: from, bytes }: Tensor, { storage: to }: Tensor): void {
  to.gpu.stream.copy(from.block, from.byteOffset, to.block, to.byteOffset, bytes);
  to.touch();
}

let recorder: ((work: MatmulWork) => void) | null = null;

/** Calls `note` for every product from now on. Returns what ends that. */
export function recordMatmuls(note: (work: MatmulWork) => void): () => void {
  recorder = note;
  return () => {
    recorder = null;
  };
}

/** Whether all loads and stores can be vec4. */
function isAligned(b: Tensor, { M, N, K }: Sizes, options: MatmulOptions): boolean {
  const rows = [N, K, options.transposeA ? M : 4];
  return b.storage.byteOffset % 16 === 0 && rows.every((n) => n % 4 === 0);
}

/** Terms that one round of a variant's loop adds up. */
const TERMS = {
  naive: 1,
  register: 4,
  subgroup4: 4,
  subgroup8: 4,
  staged: 16,
  subgroup_matrix: 32,
};

/** Terms of the sum that one workgroup adds up: as many as the device's loops and its cores allow. */
function sliceOf(
  { variant, tile }: MatmulChoice,
  { M, N, K, count }: Sizes,
  { drop, tail }: MatmulOptions,
): number {
  const draws = drop && !tail ? RAGGED_DRAWS : 0;
  const most = Math.floor((MOST_ROUNDS * TERMS[variant]) / (1 + draws) / 32) * 32;
  if (variant !== "staged" && variant !== "subgroup_matrix") return most;
  const tiles = Math.ceil(M / tile) * Math.ceil(N / tile) * count;
  const wanted = Math.max(1, Math.min(BUSY_GROUPS / tiles, K / LEAST_SLICE));
  return Math.min(most, Math.ceil(K / Math.floor(wanted) / 32) * 32);
}

/** subgroup8 has the tail in each split: sums too long for one are the naive kernel's where there is a tail. */
function fitting(choice: MatmulChoice, sizes: Sizes, options: MatmulOptions): MatmulChoice {
  if (choice.variant !== "subgroup8" || !options.tail) return choice;
  return sizes.K <= sliceOf(choice, sizes, options) ? choice : { variant: "naive", tile: 0 };
}

function run(choice: MatmulChoice, work: Work): void {
  const { variant } = choice;
  const own = variantOf(choice, work);
  kernels[variant].run(`matmul_${variant}`, {
    label: work.options.label ?? "matmul",
    tensors: own.tensors,
    params: own.params ?? paramsOf(work),
    constants: { ...constantsOf(work), ...own.constants },
    groups: [...own.grid, work.sizes.count * work.splits],
    flops: flopsOf(work),
    bytes: bytesOf(work),
  });
}

/** A multiply-add for each term of each sum; a tail makes the sums R terms deeper. */
function flopsOf({ sizes: { M, N, K, count }, options: { tail } }: Work): number {
  return 2 * count * M * N * (K + (tail?.p.shape[1] ?? 0));
}

function bytesOf({ a, b, y, options: { bias, into, tail } }: Work): number {
  const [p, q] = [tail?.p.bytes ?? 0, tail?.q.bytes ?? 0];
  return a.bytes + b.bytes + y.bytes * (into ? 2 : 1) + (bias?.bytes ?? 0) + p + q;
}

function paramsOf({ sizes, options, slice, splits }: Work) {
  const { M, N, K, aBatch, bBatch } = sizes;
  const { transposeY, bias, alpha = 1, into, tail, drop } = options;
  const p = drop?.p ?? 0;
  return {
    M,
    N,
    K,
    R: tail?.p.shape[1] ?? 0,
    k_slice: slice,
    splits,
    a_batch: aBatch,
    b_batch: bBatch,
    has_bias: Number(Boolean(bias)),
    accumulate: Number(Boolean(into)),
    transpose_y: Number(Boolean(transposeY)),
    alpha,
    key0: drop?.key[0] ?? 0,
    key1: drop?.key[1] ?? 0,
    threshold: dropThreshold(p),
    keep: 1 / (1 - p),
  };
}

function constantsOf({ b, options: { transposeA, transposeB, tail, drop } }: Work) {
  return {
    TRANSPOSE_A: Number(Boolean(transposeA)),
    TRANSPOSE_B: Number(Boolean(transposeB)),
    TRANSPOSE_Q: Number(Boolean(tail?.transposeQ)),
    TAIL: Number(Boolean(tail)),
    DROP: drop ? (tail ? 2 : 1) : 0,
    DTYPE_B: DTYPES[b.dtype]!,
  };
}

/** Which stored rows are whole vec4, as the wide kernels want to know. */
function widthsOf({ b, sizes: { M, N, K }, options }: Work) {
  const { transposeA, transposeB, transposeY, tail } = options;
  const whole = (...rows: number[]) => Number(rows.every((n) => n % 4 === 0));
  const aligned = Number(b.storage.byteOffset % 16 === 0);
  return {
    WIDE_A: whole(transposeA ? M : K),
    WIDE_B: whole(transposeB ? K : N) * aligned,
    WIDE_Y: transposeY ? 0 : whole(N),
    WIDE_TAIL: tail ? whole(tail.p.shape[1]!, N) : 1,
  };
}

interface OfVariant {
  tensors: Record<string, Tensor>;
  grid: readonly [number, number];
  constants?: Record<string, number>;
  params?: NamedScalars;
}

/** What a variant has of its own: how it binds its tensors, how many workgroups, what it must know. */
function variantOf({ variant, tile }: MatmulChoice, work: Work): OfVariant {
  const { a, b, y, options } = work;
  const { M, N, K } = work.sizes;
  // Every binding needs a buffer: a stands in for what is absent, which is never read.
  const { p, q } = options.tail ?? { p: a, q: a };
  const shared = { p, q, bias: options.bias ?? a };
  const tiles = (rows: number, columns: number) =>
    [Math.ceil(M / rows), Math.ceil(N / columns)] as const;
  if (variant === "naive") {
    return { tensors: { a, b, ...shared, y }, grid: [Math.ceil(N / 8), Math.ceil(M / 8)] };
  }
  if (variant === "register") {
    const { transpose_y: _, ...params } = paramsOf(work);
    const [rows, columns] = tiles(4, 8);
    const blocks = grid(Math.ceil((rows * columns) / 32));
    return { tensors: { a, b, b_pairs: b, ...shared, y }, grid: blocks, params };
  }
  if (variant === "staged") return { tensors: { a, b, ...shared, y }, grid: tiles(64, 64) };
  const { WIDE_A, WIDE_B, WIDE_TAIL, WIDE_Y } = widthsOf(work);
  if (variant === "subgroup_matrix") {
    const tensors = { a, b, ...shared, y };
    return { tensors, grid: tiles(128, 128), constants: { WIDE_A, WIDE_B } };
  }
  const [y4, y1] = WIDE_Y ? [y, nowhere()] : [nowhere(), y];
  return {
    tensors: { a4: a, a1: a, b4: b, b2: b, b1: b, ...shared, y4, y1 },
    grid: tiles(tile, 32),
    constants: { WIDE_A, WIDE_B, WIDE_TAIL, WIDE_Y, RAGGED_K: Number(K % 4 !== 0), ROWS: tile },
  };
}

const nowheres = new WeakMap<Gpu, Tensor>();

/** Stands in for a width of y that is not written. */
function nowhere(): Tensor {
  const device = gpu("matmul");
  const known = nowheres.get(device);
  if (known) return known;
  const made = Tensor.empty("matmul", [4], "f32").persist();
  nowheres.set(device, made);
  return made;
}
