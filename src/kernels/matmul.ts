// Matrix product: checks, choice of a kernel, dispatch. op(a): [..., M, K], op(b): [..., K, N]
import { LimitError, ShapeError } from "../gpu/errors.ts";
import { zeros } from "../tensor/create.ts";
import { broadcastShapes, format, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { kernelPath } from "./path.ts";

const naive = ownKernel("matmul.naive");
const register = ownKernel("matmul.register");

/** lavapipe ends loops after 65,535 iterations; longer sums take several dispatches. */
const MOST_ITERATIONS = 60_000;
const DTYPES: Record<string, number> = { f32: 0, f16: 1, bf16: 2 };

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
}

interface Sizes {
  M: number;
  N: number;
  K: number;
  batch: number[];
  /** Elements from one matrix to the next; 0 where one serves all. */
  aBatch: number;
  bBatch: number;
}

function checkSizes(a: Tensor, b: Tensor, { transposeA, transposeB }: MatmulOptions): Sizes {
  const op = "matmul";
  checkDType(op, "a", a, "f32");
  checkDType(op, "b", b, "f32", "f16", "bf16");
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
  return { M, N, K, batch, aBatch: step(aLead, M * K, "a"), bBatch: step(bLead, K * N, "b") };
}

/**
 * The product of matrices, of batches of them, or of one with a batch.
 * @param a  [..., M, K] of f32, or [..., K, M] where `transposeA`
 * @param b  [..., K, N] of f32, f16 or bf16, or [..., N, K] where `transposeB`
 * @returns [..., M, N], or `into`
 */
export function matmulForward(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const sizes = checkSizes(a, b, options);
  const { M, N, K, batch } = sizes;
  const { bias, into } = options;
  const shape = [...batch, M, N];
  if (bias) {
    checkDType("matmul", "bias", bias, "f32");
    checkShapeIs("matmul", "bias", bias, [N], "[N]");
  }
  if (into) checkShapeIs("matmul", "into", into, shape);
  const count = sizeOf(batch);
  if (count > 65_535) {
    const facts = { arg: "the batch", expected: "at most 65535 matrices", got: `${count}` };
    throw new LimitError({ op: "matmul", ...facts });
  }
  if (K === 0 && !bias) return into ?? zeros(shape);
  const y = into ?? Tensor.empty("matmul", shape, "f32");
  if (y.size > 0) launch(a, b, y, sizes, options);
  return y;
}

/** Whether all loads and stores can be vec4. */
function isAligned(b: Tensor, { M, N, K }: Sizes, { transposeA, transposeB }: MatmulOptions) {
  const bytes = b.storage.byteOffset % 16 === 0;
  return (
    bytes && N % 4 === 0 && K % 4 === 0 && (!transposeA || M % 4 === 0) && (transposeB || N > 0)
  );
}

function launch(a: Tensor, b: Tensor, y: Tensor, sizes: Sizes, options: MatmulOptions): void {
  const { M, N, K, batch, aBatch, bBatch } = sizes;
  const { transposeA = false, transposeB = false, bias, alpha = 1, into } = options;
  const fast = kernelPath() !== "plain" && isAligned(b, sizes, options);
  const constants = {
    TRANSPOSE_A: Number(transposeA),
    TRANSPOSE_B: Number(transposeB),
    DTYPE_B: DTYPES[b.dtype]!,
  };
  const count = sizeOf(batch);
  const perDispatch = MOST_ITERATIONS * (fast ? 4 : 1);
  for (let start = 0; start === 0 || start < K; start += perDispatch) {
    const params = {
      M,
      N,
      K,
      k_start: start,
      k_end: Math.min(K, start + perDispatch),
      a_batch: aBatch,
      b_batch: bBatch,
      accumulate: Number(Boolean(into) || start > 0),
      has_bias: Number(Boolean(bias) && start === 0),
      alpha,
    };
    // Every binding needs a buffer: a stands in for an absent bias, which is never read.
    const tensors = { a, b, bias: bias ?? a, y };
    if (fast) {
      const blocks = Math.ceil(N / 8) * Math.ceil(M / 4);
      const groups = [...grid(Math.ceil(blocks / 32)), count] as const;
      const all = { ...tensors, b_pairs: b };
      register.run("matmul_register", { tensors: all, params, constants, groups });
    } else {
      const groups = [Math.ceil(N / 8), Math.ceil(M / 8), count] as const;
      naive.run("matmul_naive", { tensors, params, constants, groups });
    }
  }
}
