// Row norms of W + s·B·A: checks, dispatches. W: [out, in] or [in, out], A: [r, in], B: [out, r]
import { gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("dora_norm");
const DTYPES: Record<string, number> = { f32: 0, f16: 1, bf16: 2 };

/** lavapipe ends all loops of an invocation after 65,535 rounds in total; longer rows are cut. */
const MOST_ROUNDS = 50_000;

/**
 * ‖W_o + s·B_o·A‖ of every row o, in f32; the sum is not built in memory.
 * @param weight  [out, in], or [in, out] where `transposed`; f32, f16 or bf16
 * @param a  [r, in] of f32
 * @param b  [out, r] of f32
 * @param scale  s
 * @returns [out] of f32
 * @throws ShapeError, DTypeError
 * @see Liu et al. 2024, arXiv 2402.09353
 */
export function doraNorm(
  weight: Tensor,
  a: Tensor,
  b: Tensor,
  scale: number,
  options: { transposed?: boolean } = {},
): Tensor {
  const { transposed = false } = options;
  const op = "dora_norm";
  checkDType(op, "weight", weight, "f32", "f16", "bf16");
  checkDType(op, "a", a, "f32");
  checkDType(op, "b", b, "f32");
  checkRank(op, "weight", weight, 2, transposed ? "[in, out]" : "[out, in]");
  checkRank(op, "a", a, 2, "[r, in]");
  const [rows, columns] = (transposed ? [...weight.shape].reverse() : weight.shape) as [
    number,
    number,
  ];
  const r = a.shape[0]!;
  checkShapeIs(op, "a", a, [r, columns], "[r, in]");
  checkShapeIs(op, "b", b, [rows, r], "[out, r]");
  const fast = rows % 4 === 0 && columns % 4 === 0;
  const lanes = fast ? lanesOf(transposed) : 1;
  const steps = Math.max(1, fast ? columns / 4 : columns);
  const span = Math.max(lanes, Math.floor(MOST_ROUNDS / (r + 1)) * lanes);
  const segments = Math.ceil(steps / span);
  const params = { rows, columns, r, span, segments, scale };
  const squares = Tensor.empty(op, [segments, rows], "f32");
  const constants = { TRANSPOSED: Number(transposed), DTYPE: DTYPES[weight.dtype]! };
  const flops = 2 * weight.size * (r + 1);
  if (fast) {
    kernel.run("dora_norm", {
      tensors: { weight, weight_pairs: weight, a, b, squares },
      params,
      constants: { ...constants, LANES: lanes },
      groups: [Math.ceil((rows * lanes) / 256), segments],
      flops,
    });
  } else {
    kernel.run("dora_norm_plain", {
      tensors: { weight_words: weight, a_single: a, b, squares },
      params,
      constants,
      groups: grid(Math.ceil((rows * segments) / 64)),
      flops,
    });
  }
  const norm = Tensor.empty(op, [rows], "f32");
  kernel.run("dora_norm_root", {
    tensors: { squares, norm },
    params,
    groups: grid(Math.ceil(rows / 64)),
  });
  squares.dispose();
  return norm;
}

/** Threads that share a row: what lets neighbours read neighbouring memory. */
function lanesOf(transposed: boolean): number {
  if (gpu("dora_norm").adapterClass === "gpu") return transposed ? 8 : 32;
  return transposed ? 8 : 16;
}
