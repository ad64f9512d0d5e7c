// Merge: checks and dispatch. W: [out, in] or [in, out], A: [r, in], B: [out, r]
import { ShapeError } from "../gpu/errors.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { rowRanges } from "./row_ranges.ts";

const kernel = ownKernel("lora_merge");
const DTYPES: Record<string, number> = { f32: 0, f16: 1, bf16: 2 };

/**
 * Adds s·B·A to a weight in place, in one pass: W_o = g_o·W_o + s·B_o·A.
 * @param weight  [out, in], or [in, out] where `transposed`; f32, f16 or bf16
 * @param a  [r, in] of f32
 * @param b  [out, r] of f32
 * @param scale  s
 * @param options  `gain`: g [out] of f32, by which the rows are multiplied before; default 1
 * @throws ShapeError, DTypeError
 */
export function loraMergeInto(
  weight: Tensor,
  a: Tensor,
  b: Tensor,
  scale: number,
  options: { transposed?: boolean; gain?: Tensor } = {},
): void {
  const { transposed = false, gain } = options;
  const op = "lora_merge";
  checkDType(op, "weight", weight, "f32", "f16", "bf16");
  checkDType(op, "a", a, "f32");
  checkDType(op, "b", b, "f32");
  checkRank(op, "weight", weight, 2, transposed ? "[in, out]" : "[out, in]");
  checkRank(op, "a", a, 2, "[r, in]");
  const [rows, columns] = weight.shape as [number, number];
  const [out, inner] = transposed ? [columns, rows] : [rows, columns];
  const r = a.shape[0]!;
  if (r === 0) {
    throw new ShapeError({ op, arg: "a", expected: "[r, in], r > 0", got: format(a.shape) });
  }
  checkShapeIs(op, "a", a, [r, inner], "[r, in]");
  checkShapeIs(op, "b", b, [out, r], "[out, r]");
  if (gain) checkShapeIs(op, "gain", gain, [out], "[out]");
  for (const { first, part } of rowRanges(op, weight)) {
    const words = part.dtype === "f32" ? part.size : Math.ceil(part.size / 2);
    kernel.run("lora_merge", {
      tensors: { a, b, weight: part, gain: gain ?? b },
      params: { n: part.size, rows, columns, first, r, scale },
      constants: {
        TRANSPOSED: Number(transposed),
        DTYPE: DTYPES[weight.dtype]!,
        GAIN: Number(Boolean(gain)),
      },
      groups: grid(Math.ceil(words / 64)),
      flops: 2 * part.size * r,
      bytes: 2 * part.bytes + a.bytes + b.bytes,
    });
    if (part !== weight) weight.storage.touch();
  }
}
