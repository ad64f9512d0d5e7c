// Element types: checks, outputs, dispatches. Casts between f16 and bf16, and from int8 and nf4, go through f32.

import { DTypeError } from "../gpu/errors.ts";
import { bytesOf, type DType } from "../tensor/dtype.ts";
import { isQuantized } from "../tensor/quantized.ts";
import { scope } from "../tensor/scope.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkTensor } from "./check.ts";
import { dequantize } from "./dequantize.ts";
import { grid, ownKernel } from "./kernel.ts";
import { rowRanges } from "./row_ranges.ts";

const kernel = ownKernel("cast");

const TYPES: readonly string[] = ["f32", "f16", "bf16", "i32", "u32"];
const isPacked = (dtype: DType) => dtype === "f16" || dtype === "bf16";

/** The elements in another type, to nearest (ties to even), towards zero for integers. */
export function castTo(x: Tensor, dtype: DType): Tensor {
  checkTensor("cast", "x", x);
  if (!TYPES.includes(dtype)) {
    const expected = `one of ${TYPES.join(", ")}`;
    const hint = isQuantized(dtype) ? `Use \`await quantize(x, "${dtype}")\`.` : "";
    throw new DTypeError({ op: "cast", arg: "dtype", expected, got: `${dtype}`, hint });
  }
  if (x.dtype === dtype) return x.view(x.shape);
  if (isQuantized(x.dtype)) {
    const wide = dequantize(x);
    return dtype === "f32" ? wide : through(wide, dtype);
  }
  if (isPacked(x.dtype)) {
    const wide = unpack(x);
    return dtype === "f32" ? wide : through(wide, dtype);
  }
  if (!isPacked(dtype)) return convert(x, dtype);
  return x.dtype === "f32" ? pack(x, dtype) : through(convert(x, "f32"), dtype);
}

/**
 * The stored bytes of x as another type. What one binding does not hold is converted range by range.
 * @param dtype  as for `castTo`
 */
export async function bytesAs(x: Tensor, dtype: DType): Promise<Uint8Array<ArrayBuffer>> {
  if (x.dtype === dtype) return x.rawBytes();
  using _ = scope();
  const ranges = isQuantized(x.dtype) ? [] : rowRanges("cast", x, 4 * x.size);
  if (ranges.length < 2) return castTo(x, dtype).rawBytes();
  const bytes = new Uint8Array(bytesOf(x.shape, dtype));
  for (const { first, part } of ranges) {
    using converted = castTo(part, dtype);
    bytes.set(await converted.rawBytes(), (first / x.shape[0]!) * bytes.length);
  }
  return bytes;
}

function through(wide: Tensor, dtype: DType): Tensor {
  const y = castTo(wide, dtype);
  wide.dispose();
  return y;
}

function unpack(x: Tensor): Tensor {
  const y = Tensor.empty("cast", x.shape, "f32");
  kernel.run("cast_unpack", {
    tensors: { words: x, bits: y },
    params: { n: x.size },
    constants: { HALF: Number(x.dtype === "f16") },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return y;
}

function pack(x: Tensor, dtype: DType): Tensor {
  const y = Tensor.empty("cast", x.shape, dtype);
  kernel.run("cast_pack", {
    tensors: { words: x, bits: y },
    params: { n: x.size },
    constants: { HALF: Number(dtype === "f16") },
    groups: grid(Math.ceil(x.size / 128)),
  });
  return y;
}

function convert(x: Tensor, dtype: DType): Tensor {
  const y = Tensor.empty("cast", x.shape, dtype);
  kernel.run("cast_convert", {
    tensors: { x, y },
    params: { n: x.size },
    defines: { From: x.dtype, To: dtype },
    groups: grid(Math.ceil(x.size / 64)),
  });
  return y;
}
