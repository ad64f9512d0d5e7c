// How kernels that walk along whole arrays deal their items out to workgroups.
import { gpu } from "../gpu/device.ts";
import { grid } from "./kernel.ts";
import { kernelPath } from "./path.ts";

/** The constants and the grid of a launch that is dealt out. */
export interface Deal {
  constants: { LANES: number; ROUNDS: number };
  groups: [number, number];
}

/**
 * Deals `n` items, such as elements or vec4s, out to workgroups that take LANES · ROUNDS in a row.
 * Software devices want few threads that make many rounds, GPUs many threads; one round is the plain path.
 */
export function dealt(op: string, n: number): Deal {
  const constants = share(op);
  return { constants, groups: grid(Math.ceil(n / (constants.LANES * constants.ROUNDS))) };
}

function share(op: string): Deal["constants"] {
  if (kernelPath() === "plain") return { LANES: 64, ROUNDS: 1 };
  return gpu(op).adapterClass === "gpu" ? { LANES: 256, ROUNDS: 1 } : { LANES: 8, ROUNDS: 64 };
}
