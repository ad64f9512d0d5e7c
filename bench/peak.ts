// What this device can do at best: multiply-adds in registers, and a streaming copy.
import type { Gpu } from "../src/gpu/device.ts";
import { kernel } from "../src/kernels/kernel.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";

export interface Peak {
  gflops: number;
  gbytesPerSecond: number;
}

const STEPS = 64;
const UNROLL = 16;
const CHAINS = 3; // independent chains of vec4: what fits the registers of a processor too
const COPY_BYTES = 32 * 2 ** 20;
const TARGET_MS = 30;

const source = `
struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> params: Params;

// One thread: ${CHAINS} independent chains of vec4 multiply-adds. The factor comes from memory, so nothing folds.
@compute @workgroup_size(64)
fn peak_multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
  let f = x[id.x % 64u].x;
  ${lines((i) => `var a${i} = vec4(f, f + 1.0, f + 2.0, f + 3.0) + ${i}.5;`)}
  for (var i = 0u; i < ${STEPS}u; i++) {
    ${Array.from({ length: UNROLL }, () => lines((i) => `a${i} = a${i} * f + f;`)).join("\n    ")}
  }
  y[id.x] = ${lines((i) => `a${i}`, " + ")};
}

// One thread copies eight vec4, neighbours beside neighbours.
@compute @workgroup_size(64)
fn peak_copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = group.x * 512u + lane;
  for (var i = 0u; i < 8u; i++) {
    y[at + 64u * i] = x[at + 64u * i];
  }
}

// Eight threads copy 512 vec4 in 64 rounds: what a software device likes.
@compute @workgroup_size(8)
fn peak_copy_rounds(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = group.x * 512u + lane;
  for (var i = 0u; i < 64u; i++) {
    y[at + 8u * i] = x[at + 8u * i];
  }
}
`;

function lines(make: (i: number) => string, between = "\n  "): string {
  return Array.from({ length: CHAINS }, (_, i) => make(i)).join(between);
}

/** Measures both, in about a second. */
export async function measurePeak(gpu: Gpu): Promise<Peak> {
  using _ = scope();
  const peak = kernel("peak", source);
  const x = Tensor.empty("peak", [COPY_BYTES / 4], "f32");
  const y = Tensor.empty("peak", [COPY_BYTES / 4], "f32");
  const time = async (entry: string, groups: number) => {
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      const started = performance.now();
      peak.run(entry, { tensors: { x, y }, params: { n: 0 }, groups: [groups] });
      await gpu.sync();
      times.push(performance.now() - started);
    }
    return Math.min(...times);
  };
  let groups = 64;
  let ms = await time("peak_multiply_add", groups);
  while (ms < TARGET_MS && groups < 16384) {
    groups *= 2;
    ms = await time("peak_multiply_add", groups);
  }
  const flops = groups * 64 * STEPS * UNROLL * CHAINS * 4 * 2;
  const copyMs = Math.min(
    await time("peak_copy", COPY_BYTES / 16 / 512),
    await time("peak_copy_rounds", COPY_BYTES / 16 / 512),
  );
  return { gflops: flops / ms / 1e6, gbytesPerSecond: (2 * COPY_BYTES) / copyMs / 1e6 };
}
