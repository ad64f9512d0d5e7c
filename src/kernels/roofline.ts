// What this device can do at best: multiply-adds in registers, and a streaming copy.
import type { Gpu } from "../gpu/device.ts";
import { scope } from "../tensor/scope.ts";
import { Tensor } from "../tensor/tensor.ts";
import { ownKernel } from "./kernel.ts";

const kernel = ownKernel("roofline");

/** The two roofs: no kernel of f32 computes faster, none of large arrays moves more. */
export interface Roofline {
  gflops: number;
  gbytesPerSecond: number;
}

const ROUNDS = 64;
const FLOPS_PER_ROUND = 16 * 3 * 4 * 2; // 16 links of three chains of vec4
const COPY_BYTES = 32 * 2 ** 20;
const TARGET_MS = 30;
const MOST_GROUPS = 16_384;

const measured = new WeakMap<Gpu, Promise<Roofline>>();

/** Measures both once for each device, in about a second. Do it while nothing else runs. */
export function measureRoofline(gpu: Gpu): Promise<Roofline> {
  const known = measured.get(gpu);
  if (known) return known;
  const promise = measure(gpu);
  measured.set(gpu, promise);
  promise.catch(() => measured.delete(gpu));
  return promise;
}

async function measure(gpu: Gpu): Promise<Roofline> {
  using _ = scope();
  const [x, y] = [0, 1].map(() => Tensor.empty("roofline", [COPY_BYTES / 4], "f32"));
  const tensors = { x: x!, y: y! };
  const time = async (entry: string, groups: number) => {
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      const started = performance.now();
      kernel.run(entry, { tensors, params: { rounds: ROUNDS }, groups: [groups] });
      await gpu.sync();
      times.push(performance.now() - started);
    }
    return Math.min(...times);
  };
  let groups = 64;
  let ms = await time("roofline_multiply_add", groups);
  while (ms < TARGET_MS && groups < MOST_GROUPS) {
    groups *= 2;
    ms = await time("roofline_multiply_add", groups);
  }
  const copyMs = Math.min(
    await time("roofline_copy", COPY_BYTES / 16 / 512),
    await time("roofline_copy_rounds", COPY_BYTES / 16 / 512),
  );
  return {
    gflops: (groups * 64 * ROUNDS * FLOPS_PER_ROUND) / ms / 1e6,
    gbytesPerSecond: (2 * COPY_BYTES) / copyMs / 1e6,
  };
}
