// Dropout: checks, output, dispatch. x, y: [...]
import { ValueError } from "../gpu/errors.ts";
import { zeros } from "../tensor/create.ts";
import { dropThreshold, type Key } from "../tensor/philox.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("dropout");

/** Throws ValueError unless p is a probability. */
export function checkProbability(op: string, arg: string, p: number): void {
  if (p >= 0 && p <= 1) return;
  throw new ValueError({ op, arg, expected: "in [0, 1]", got: `${p}` });
}

/** Drops the elements that the key means. The gradient is this very function of dy. */
export function dropoutForward(x: Tensor, p: number, key: Key): Tensor {
  checkDType("dropout", "x", x, "f32");
  checkProbability("dropout", "p", p);
  if (p === 1) return zeros(x.shape);
  const y = Tensor.empty("dropout_forward", x.shape, "f32");
  kernel.run("dropout_forward", {
    tensors: { x, y },
    params: {
      n: x.size,
      key0: key[0],
      key1: key[1],
      threshold: dropThreshold(p),
      scale: 1 / (1 - p),
    },
    groups: grid(Math.ceil(x.size / 256)),
  });
  return y;
}
