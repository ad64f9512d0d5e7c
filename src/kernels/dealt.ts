// How kernels that walk along whole arrays, vec4 by vec4, deal them out to workgroups.
import { gpu } from "../gpu/device.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { grid } from "./kernel.ts";

/**
 * Software devices want long runs for each invocation, GPUs many invocations.
 * @param x  a flat array that is padded to whole vec4s
 */
export function dealt(
  op: string,
  x: Tensor,
): { n4: number; constants: { LANES: number; ROUNDS: number }; groups: [number, number] } {
  const n4 = Math.ceil(x.size / 4);
  const onGpu = gpu(op).adapterClass === "gpu";
  const constants = onGpu ? { LANES: 256, ROUNDS: 1 } : { LANES: 8, ROUNDS: 64 };
  return { n4, constants, groups: grid(Math.ceil(n4 / (constants.LANES * constants.ROUNDS))) };
}
