// What ops ask of a weight that one binding cannot hold.
import { LimitError } from "../../gpu/errors.ts";
import { inRanges } from "../../kernels/row_ranges.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { gradEnabled } from "../graph.ts";

/** Throws LimitError where a weight that one binding cannot hold wants a gradient, which none could hold either. */
export function checkFrozenTable(op: string, weight: Tensor): void {
  if (!(gradEnabled() && weight.requiresGrad && inRanges(weight))) return;
  const { byteLength, gpu } = weight.storage;
  throw new LimitError({
    op,
    arg: "weight",
    expected: `frozen, or at most ${gpu.bindingLimit} bytes, which this device binds at once`,
    got: `${byteLength} bytes that want a gradient`,
    hint: "Train adapters of other layers (LoRA), or use a device with larger bindings.",
  });
}
