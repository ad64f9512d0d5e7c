// What a frozen base is held as, in one word.
import type { LoadOptions } from "../nn/pretrained.ts";
import { isQuantized } from "../tensor/quantized.ts";

/** As stored; a floating type; or QLoRA's types, in which all linear layers but the head are held. */
export const BASE_DTYPES = ["auto", "f32", "f16", "bf16", "int8", "nf4"] as const;
export type BaseDtype = (typeof BASE_DTYPES)[number];

/** The same for `fromPretrained`. */
export function heldAs(dtype: BaseDtype): Pick<LoadOptions, "dtype" | "quantize"> {
  return isQuantized(dtype) ? { quantize: dtype } : { dtype };
}
