// Quantised matrices as f32: checks, output, dispatch.
import { isQuantized } from "../tensor/quantized.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("dequantize");

/**
 * The numbers that a quantised matrix stands for: y = scale·code.
 * @param w  [rows, columns] of int8 or nf4
 * @returns [rows, columns] of f32
 * @throws DTypeError
 */
export function dequantize(w: Tensor): Tensor {
  checkDType("dequantize", "w", w, "int8", "nf4");
  const y = Tensor.empty("dequantize", w.shape, "f32");
  if (w.size === 0) return y;
  const columns = w.shape[1]!;
  kernel.run("dequantize", {
    tensors: { w, y },
    params: { n: w.size, columns },
    constants: { NF4: Number(w.dtype === "nf4"), WIDE: Number(columns % 4 === 0) },
    groups: grid(Math.ceil(w.size / 256)),
  });
  return y;
}

/** The tensor itself where its type is not a quantised one, else what it stands for. */
export function dequantized(w: Tensor): Tensor {
  return isQuantized(w.dtype) ? dequantize(w) : w;
}
