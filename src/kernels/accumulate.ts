// total += x in place: how gradients are summed.
import { ShapeError } from "../gpu/errors.ts";
import { format, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("accumulate");

/** Adds x to total, in place. Both f32 of one shape; they must not share memory. */
export function accumulate(total: Tensor, x: Tensor): void {
  if (!sameShape(total.shape, x.shape)) {
    throw new ShapeError({
      op: "accumulate",
      arg: "x",
      expected: format(total.shape),
      got: format(x.shape),
    });
  }
  const { constants, groups } = dealt("accumulate", Math.ceil(x.size / 4));
  kernel.run("accumulate", {
    tensors: { total, x },
    params: { n: x.size },
    ...{ constants, groups, bytes: 3 * x.bytes },
  });
}
