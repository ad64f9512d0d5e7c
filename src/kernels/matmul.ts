// Matrix product: checks and shapes. op(a): [..., M, K], op(b): [..., K, N]
import { LimitError, ShapeError, ValueError } from "../gpu/errors.ts";
import { zeros } from "../tensor/create.ts";
import type { Key } from "../tensor/philox.ts";
import { broadcastShapes, format, sizeOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { launchMatmul, type Sizes } from "./matmul_launch.ts";

/** Columns of y up to which it pays to compute its transpose. */
const NARROW = 16;

export interface MatmulOptions {
  /** a is stored [..., K, M]. */
  transposeA?: boolean;
  /** b is stored [..., N, K]. */
  transposeB?: boolean;
  /** [N], added to every row. */
  bias?: Tensor;
  /** Factor of the product, not of the bias. */
  alpha?: number;
  /** Adds the product to this tensor in place of a new one. */
  into?: Tensor;
  /** Writes the product over this tensor in place of a new one. */
  out?: Tensor;
  /** The result is stored [..., N, M]. */
  transposeY?: boolean;
  /** Makes the sum deeper by a second product: low-rank updates. For one matrix and alpha 1. */
  tail?: Tail;
  /**
   * Drops elements of b as it is stored, or of the tail's product where there is one. Matrix i of a batch draws
   * with the i-th key from this one on.
   */
  drop?: Drop;
  /** Each matrix of a batch is computed as it would be alone, by the same kernel and so to the same bits. */
  eachAsAlone?: boolean;
  /** What dispatches are called in profiles and errors. */
  label?: string;
}

/** p · op(q), added to the product. */
interface Tail {
  /** [M, R] of f32 */
  p: Tensor;
  /** [R, N] of f32, or [N, R] where `transposeQ` */
  q: Tensor;
  transposeQ?: boolean;
}

/** The elements that `dropoutForward(x, p, key)` drops, the others times 1/(1 − p). */
export interface Drop {
  p: number;
  key: Key;
}

function checkSizes(
  a: Tensor,
  b: Tensor,
  { transposeA, transposeB }: MatmulOptions,
): Sizes & { batch: number[] } {
  const op = "matmul";
  checkDType(op, "a", a, "f32");
  checkDType(op, "b", b, "f32", "f16", "bf16", "int8", "nf4");
  checkRank(op, "a", a, 2, transposeA ? "[..., K, M]" : "[..., M, K]", true);
  checkRank(op, "b", b, 2, transposeB ? "[..., N, K]" : "[..., K, N]", true);
  const [aRows, aColumns] = a.shape.slice(-2) as [number, number];
  const [bRows, bColumns] = b.shape.slice(-2) as [number, number];
  const [M, K] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [own, N] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  if (own !== K) {
    const dims = transposeB ? `[..., N, K = ${K}]` : `[..., K = ${K}, N]`;
    const hint = `a is ${format(a.shape)}${transposeA ? ", transposed" : ""}.`;
    throw new ShapeError({ op, arg: "b", expected: dims, got: format(b.shape), hint });
  }
  const [aLead, bLead] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = broadcastShapes(op, aLead, bLead);
  const count = sizeOf(batch);
  const step = (lead: readonly number[], size: number, arg: string): number => {
    if (sizeOf(lead) === count) return size;
    if (sizeOf(lead) === 1) return 0;
    const expected = `one matrix, or as many as the result (${format(batch)})`;
    const hint = "Make its copies with `broadcastTo` first.";
    throw new ShapeError({ op, arg, expected, got: format(lead), hint });
  };
  const [aBatch, bBatch] = [step(aLead, M * K, "a"), step(bLead, K * N, "b")];
  return { M, N, K, batch, count, aBatch, bBatch };
}

/**
 * The product of matrices, of batches of them, or of one with a batch.
 * @param a  [..., M, K] of f32, or [..., K, M] where `transposeA`
 * @param b  [..., K, N] of any floating type, or [..., N, K] where `transposeB`; [K, N] where it is quantised
 * @returns [..., M, N], or `into`, or `out`
 */
export function matmulForward(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const sizes = checkSizes(a, b, options);
  const { M, N, K, batch, count } = sizes;
  const { bias, into, out, transposeY } = options;
  const shape = transposeY ? [...batch, N, M] : [...batch, M, N];
  if (bias) {
    checkDType("matmul", "bias", bias, "f32");
    checkShapeIs("matmul", "bias", bias, [N], "[N]");
  }
  if (into) checkShapeIs("matmul", "into", into, shape);
  if (out) checkShapeIs("matmul", "out", out, shape);
  if (count > 65_535) {
    const facts = { arg: "the batch", expected: "at most 65535 matrices", got: `${count}` };
    throw new LimitError({ op: "matmul", ...facts });
  }
  if (options.tail) checkTail(options.tail, sizes, options);
  const isEmpty = count * M * N === 0 || (K === 0 && !bias && !options.tail);
  if (isEmpty) return into ?? (out && cleared(out)) ?? zeros(shape);
  // A narrow y would leave most of a tile's columns idle: then it is computed transposed. So is one with a
  // tail, or a low-rank update of zero would change the order of the base's sums.
  const { tail } = options;
  const narrow = N <= NARROW && N < M && b.dtype === "f32" && (!tail || tail.transposeQ);
  if (!narrow || bias || options.drop) return launchMatmul(a, b, shape, sizes, options);
  const turned = { ...sizes, M: N, N: M, aBatch: sizes.bBatch, bBatch: sizes.aBatch };
  return launchMatmul(b, a, shape, turned, {
    ...options,
    transposeA: !options.transposeB,
    transposeB: !options.transposeA,
    transposeY: !transposeY,
    ...(tail ? { tail: { p: tail.q, q: tail.p, transposeQ: true } } : {}),
  });
}

function cleared(t: Tensor): Tensor {
  const { gpu: device, block, byteOffset } = t.storage;
  device.stream.clear(block, byteOffset, t.bytes);
  t.storage.touch();
  return t;
}

function checkTail({ p, q, transposeQ }: Tail, { M, N, count }: Sizes, { alpha }: MatmulOptions) {
  const op = "matmul";
  checkDType(op, "p", p, "f32");
  checkDType(op, "q", q, "f32");
  checkRank(op, "p", p, 2, "[M, R]");
  const R = p.shape[1]!;
  checkShapeIs(op, "p", p, [M, R], "[M, R]");
  checkShapeIs(op, "q", q, transposeQ ? [N, R] : [R, N], transposeQ ? "[N, R]" : "[R, N]");
  if (count === 1 && (alpha ?? 1) === 1) return;
  const expected = "of a single product with alpha 1";
  throw new ValueError({ op, arg: "tail", expected, got: `${count} products, alpha ${alpha}` });
}
