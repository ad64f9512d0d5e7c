import { checkProbability, dropoutForward } from "../../kernels/dropout.ts";
import { type Key, nextKey } from "../../tensor/philox.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { op } from "../op.ts";

const rule = op("dropout", {
  forward: (x: Tensor, p: number, key: Key) => [dropoutForward(x, p, key), { p, key }],
  backward: (dy, { p, key }) => [dropoutForward(dy, p, key)],
});

/**
 * Sets elements to 0 with probability p and scales the others by 1/(1−p). The mask is drawn by
 * counter from `manualSeed`'s stream and made again in backward; the CPU and every GPU draw alike.
 * @param x  [...] of f32
 * @param p  probability of dropping, in [0, 1]
 * @param options  `training: false` makes it the identity, as p = 0 does; `key`: one that was drawn already
 * @throws DTypeError, ValueError
 * @see Srivastava et al. 2014, JMLR 15; Salmon et al. 2011 for the generator
 */
export function dropout(
  x: Tensor,
  p: number,
  options: { training?: boolean; key?: Key } = {},
): Tensor {
  checkProbability("dropout", "p", p);
  if (p === 0 || options.training === false) return x;
  return rule(x, p, options.key ?? nextKey());
}
