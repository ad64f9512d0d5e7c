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

const naive = ownKernel("matmul.naive");
const register = ownKernel("matmul.register");
const staged = ownKernel("matmul.staged");
const subgroupMatrix = ownKernel("matmul.subgroup_matrix");
const subgroup = { 4: ownKernel("matmul.subgroup4"), 8: ownKernel("matmul.subgroup8") };

const DTYPES: Record<string, number> = { f32: 0, f16: 1, bf16: 2 };
/** lavapipe ends loops after 65,535 rounds in all; longer sums are split. */
const MOST_ROUNDS = 60_000;
/** Rounds in which Philox makes four words. */
const PHILOX_ROUNDS = 10;
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

/** Everything that the launchers share. */
interface Work {
  entry: string;
  a: Tensor;
  b: Tensor;
  y: Tensor;
  sizes: Sizes;
  options: MatmulOptions;
  splits: number;
  tile: number;
  params: NamedScalars;
  constants: Record<string, number>;
}

/**
 * Computes a product whose arguments were checked.
 * @returns [..., M, N] as `shape` says, or `options.into`
 */
export function launchMatmul(
  a: Tensor,
  b: Tensor,
  shape: readonly number[],
  sizes: Sizes,
  options: MatmulOptions,
): Tensor {
  const { M, N, K, count } = sizes;
  const { transposeA = false, transposeB = false, transposeY = false, into } = options;
  const aligned = isAligned(b, sizes, options);
  const layout = { transposeA, transposeB, transposeY, dtype: b.dtype };
  const work = { M, N, K, count, ...layout, aligned };
  recorder?.(work);
  const choice = chooseVariant(work);
  const slice = sliceOf(choice, sizes, options);
  const splits = Math.max(1, Math.ceil(K / slice));
  if (splits === 1) {
    const y = into ?? Tensor.empty("matmul", shape, "f32");
    run(choice, { ...prepare(sizes, options, slice, 1), a, b, y });
    return y;
  }
  const parts = Tensor.empty("matmul", [count, splits, M, N], "f32");
  const { into: _, ...own } = options;
  run(choice, { ...prepare(sizes, own, slice, splits), a, b, y: parts });
  const fold = { outer: count, R: splits, inner: M * N };
  const sum = foldForward("matmul", "sum", parts, fold, shape);
  parts.dispose();
  if (!into) return sum;
  accumulate(into, sum);
  sum.dispose();
  return into;
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
  const draws = drop && !tail ? 4 * PHILOX_ROUNDS : 0;
  const most = Math.floor((MOST_ROUNDS * TERMS[variant]) / (1 + draws) / 32) * 32;
  if (variant !== "staged" && variant !== "subgroup_matrix") return most;
  const tiles = Math.ceil(M / tile) * Math.ceil(N / tile) * count;
  const wanted = Math.max(1, Math.min(BUSY_GROUPS / tiles, K / LEAST_SLICE));
  return Math.min(most, Math.ceil(K / Math.floor(wanted) / 32) * 32);
}

function prepare(sizes: Sizes, options: MatmulOptions, slice: number, splits: number) {
  const { M, N, K, aBatch, bBatch } = sizes;
  const { transposeA, transposeB, transposeY, bias, alpha = 1, into, tail, drop } = options;
  const p = drop?.p ?? 0;
  const params = {
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
  const constants = {
    TRANSPOSE_A: Number(Boolean(transposeA)),
    TRANSPOSE_B: Number(Boolean(transposeB)),
    TRANSPOSE_Q: Number(Boolean(tail?.transposeQ)),
    TAIL: Number(Boolean(tail)),
    DROP: drop ? (tail ? 2 : 1) : 0,
  };
  const entry = options.label ?? "matmul";
  return { entry, sizes, options, splits, params, constants };
}

function run({ variant, tile }: MatmulChoice, prepared: Omit<Work, "tile">): void {
  const work = { ...prepared, tile };
  if (variant === "naive") runNaive(work);
  else if (variant === "register") runRegister(work);
  else if (variant === "staged") runStaged(work);
  else if (variant === "subgroup_matrix") runSubgroupMatrix(work);
  else runSubgroup(work, variant === "subgroup4" ? 4 : 8);
}

/** Which stored rows are whole vec4, as the wide kernels want to know. */
function widths({ b, sizes: { M, N, K }, options }: Work) {
  const { transposeA, transposeB, transposeY, tail } = options;
  const whole = (...rows: number[]) => rows.every((n) => n % 4 === 0);
  return {
    WIDE_A: whole(transposeA ? M : K),
    WIDE_B: whole(transposeB ? K : N) && b.storage.byteOffset % 16 === 0,
    WIDE_Y: whole(N) && !transposeY,
    WIDE_TAIL: !tail || whole(tail.p.shape[1]!, N),
  };
}

/** Every binding needs a buffer: a stands in for what is absent, which is never read. */
function inputs({ a, b, options: { tail, bias } }: Work) {
  return { a, b, p: tail?.p ?? a, q: tail?.q ?? a, bias: bias ?? a };
}

function runNaive(work: Work): void {
  const { entry, y, b, params, splits } = work;
  const { M, N, count } = work.sizes;
  naive.run("matmul_naive", {
    label: entry,
    tensors: { ...inputs(work), y },
    params,
    constants: { ...work.constants, DTYPE_B: DTYPES[b.dtype]! },
    groups: [Math.ceil(N / 8), Math.ceil(M / 8), count * splits],
  });
}

function runRegister(work: Work): void {
  const { entry, y, b, splits } = work;
  const { M, N, count } = work.sizes;
  const { transpose_y: _, ...params } = work.params;
  const blocks = Math.ceil(N / 8) * Math.ceil(M / 4);
  register.run("matmul_register", {
    label: entry,
    tensors: { ...inputs(work), b_pairs: b, y },
    params,
    constants: { ...work.constants, DTYPE_B: DTYPES[b.dtype]! },
    groups: [...grid(Math.ceil(blocks / 32)), count * splits],
  });
}

function runStaged(work: Work): void {
  const { entry, y, b, params, splits } = work;
  const { M, N, count } = work.sizes;
  staged.run("matmul_staged", {
    label: entry,
    tensors: { ...inputs(work), y },
    params,
    constants: { ...work.constants, DTYPE_B: DTYPES[b.dtype]! },
    groups: [Math.ceil(M / 64), Math.ceil(N / 64), count * splits],
  });
}

function runSubgroupMatrix(work: Work): void {
  const { entry, y, b, params, splits } = work;
  const { M, N, count } = work.sizes;
  const { WIDE_A, WIDE_B } = widths(work);
  subgroupMatrix.run("matmul_subgroup_matrix", {
    label: entry,
    tensors: { ...inputs(work), y },
    params,
    constants: {
      ...work.constants,
      WIDE_A: Number(WIDE_A),
      WIDE_B: Number(WIDE_B),
      DTYPE_B: DTYPES[b.dtype]!,
    },
    groups: [Math.ceil(M / 128), Math.ceil(N / 128), count * splits],
  });
}

function runSubgroup(work: Work, lanes: 4 | 8): void {
  const { entry, a, b, y, params, splits, tile } = work;
  const { M, N, K, count } = work.sizes;
  const { WIDE_A, WIDE_B, WIDE_Y, WIDE_TAIL } = widths(work);
  const { bias, p, q } = inputs(work);
  subgroup[lanes].run(`matmul_subgroup${lanes}`, {
    label: entry,
    tensors: {
      ...{ a4: a, a1: a, b4: b, b2: b, b1: b, p, q, bias },
      y4: WIDE_Y ? y : nowhere(),
      y1: WIDE_Y ? nowhere() : y,
    },
    params,
    constants: {
      ...work.constants,
      WIDE_A: Number(WIDE_A),
      WIDE_B: Number(WIDE_B),
      WIDE_TAIL: Number(WIDE_TAIL),
      WIDE_Y: Number(WIDE_Y),
      RAGGED_K: Number(K % 4 !== 0),
      DTYPE_B: DTYPES[b.dtype]!,
      ROWS: tile,
    },
    groups: [Math.ceil(M / tile), Math.ceil(N / 32), count * splits],
  });
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
