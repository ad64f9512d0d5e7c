// Which matrix product suits the device and the sizes.
import { type Gpu, gpu } from "../gpu/device.ts";
import { kernelPath } from "./path.ts";

/**
 * `naive`: the specification, any shape. `register`: 4 × 8 per thread, aligned shapes. `subgroup4` and
 * `subgroup8`: 32 × 32 per subgroup of a software device. `staged`: 64 × 64 per workgroup, for GPUs.
 */
export type MatmulVariant = "naive" | "register" | "subgroup4" | "subgroup8" | "staged";

/** What the choice depends on. */
export interface MatmulWork {
  M: number;
  N: number;
  /** Multiply-adds of all the batch. */
  work: number;
  /** All stored rows are whole vec4. */
  aligned: boolean;
  transposeY: boolean;
}

// A subgroup kernel takes a software device 0.3 to 2 seconds to compile once, less the fewer rows it has.
// Below this much work the others lose less than 0.1 ms a call; unaligned shapes need a variant of
// their own, so more.
const WORTH_COMPILING = 2 ** 15; // for each row of the tile
const UNALIGNED = 8;
// A staged tile has 64 rows and columns: with few of them most of it idles.
const LEAST_STAGED = 8;

let forced: MatmulVariant | null = null;

/** Uses one variant for everything that it can compute, for tests and benches; null: choose. */
export function forceMatmulVariant(variant: MatmulVariant | null): void {
  forced = variant;
}

/** The variants that this device can run. */
export function matmulVariants(): MatmulVariant[] {
  const lanes = shuffleLanes(gpu("matmul"));
  return ["naive", "register", "staged", ...(lanes ? ([`subgroup${lanes}`] as const) : [])];
}

export function chooseVariant({ M, N, work, aligned, transposeY }: MatmulWork): MatmulVariant {
  const simple = aligned && !transposeY ? "register" : "naive";
  if (forced) return forced === "register" ? simple : forced;
  if (kernelPath() === "plain") return "naive";
  const device = gpu("matmul");
  if (device.adapterClass === "gpu") return Math.min(M, N) < LEAST_STAGED ? simple : "staged";
  const lanes = shuffleLanes(device);
  const enough = WORTH_COMPILING * tileRows(M) * (aligned ? 1 : UNALIGNED);
  return lanes && (work >= enough || kernelPath() === "fast") ? `subgroup${lanes}` : simple;
}

/** Rows of a subgroup kernel's tile: no more than are needed. */
export function tileRows(M: number): number {
  return [4, 8, 16].find((rows) => M <= rows) ?? 32;
}

/** Lanes of the device's subgroups where a kernel is written for that many. */
function shuffleLanes({ features, info, adapterClass }: Gpu): 4 | 8 | null {
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  if (adapterClass === "gpu" || !features.has("subgroups") || least !== most) return null;
  return least === 4 || least === 8 ? least : null;
}
