// gradcheck: whether an op's backward rule is the derivative of its forward rule.
import { GradError, ShapeError } from "../gpu/errors.ts";
import { tensor } from "../tensor/create.ts";
import { philox4x32 } from "../tensor/philox.ts";
import { scope } from "../tensor/scope.ts";
import { format } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { backward } from "./backward.ts";
import { noGrad } from "./graph.ts";

export interface GradcheckOptions {
  /** Step of the differences. Default 1e-2: the result is f32, so smaller steps drown in rounding. */
  eps?: number;
  /** Allowed error, as a share of 1 + the largest gradient of the input. Default 1e-2. */
  tolerance?: number;
  /** Most elements of each input that are looked at, evenly spread. Default 64. */
  elements?: number;
  /** Chooses the gradient of the result. Default 0. */
  seed?: number;
}

/**
 * Compares the gradients of `fn` with central differences, for a random gradient of its result.
 * @param fn  maps the inputs to one f32 tensor, the same way every time (fix the seed of dropout)
 * @param inputs  f32 tensors of moderate numbers, away from kinks by more than `eps`
 * @throws GradError naming the input, the element, and both numbers
 */
export async function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): Promise<void> {
  const { eps = 1e-2, tolerance = 1e-2, elements = 64, seed = 0 } = options;
  using _ = scope();
  const leaves = inputs.map((x) => {
    if (x.dtype === "f32") return Object.assign(x.view(x.shape), { requiresGrad: true });
    throw new ShapeError({ op: "gradcheck", arg: "inputs", expected: "f32", got: x.dtype });
  });
  const y = fn(...leaves);
  const dy = Float32Array.from({ length: y.size }, (_, i) => {
    const [word] = philox4x32([i, 0, 0, 0], [seed >>> 0, 0x6763]);
    return (word / 2 ** 32) * 2 - 1;
  });
  backward(y, { gradient: tensor(dy, y.shape) });
  /** Σ dy·fn(inputs), with one element of one input moved by `by`, summed in float64. */
  const moved = async (values: Float32Array, input: number, at: number, by: number) => {
    using _ = scope();
    const changed = Float32Array.from(values);
    changed[at] = values[at]! + by;
    const args = inputs.map((x, i) => (i === input ? tensor(changed, x.shape) : x));
    const result = (await noGrad(() => fn(...args)).data()) as Float32Array;
    const step = changed[at]! - values[at]!;
    return { sum: result.reduce((total: number, v, i) => total + v * dy[i]!, 0), step };
  };
  for (const [input, x] of inputs.entries()) {
    const values = (await x.data()) as Float32Array;
    const gradient = leaves[input]!.grad;
    const got = gradient ? ((await gradient.data()) as Float32Array) : new Float32Array(x.size);
    gradient?.dispose();
    const scale = 1 + got.reduce((most: number, v) => Math.max(most, Math.abs(v)), 0);
    const stride = Math.max(1, Math.floor(x.size / elements));
    for (let at = 0; at < x.size; at += stride) {
      const up = await moved(values, input, at, eps);
      const down = await moved(values, input, at, -eps);
      const expected = (up.sum - down.sum) / (up.step - down.step);
      if (Math.abs(expected - got[at]!) <= tolerance * scale) continue;
      throw new GradError({
        op: "gradcheck",
        arg: `the gradient of input ${input + 1} ${format(x.shape)} at element ${at}`,
        expected: `${expected.toPrecision(5)} (by central differences)`,
        got: got[at]!.toPrecision(5),
      });
    }
  }
}
