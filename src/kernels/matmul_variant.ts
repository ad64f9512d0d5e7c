// Which matrix product suits the device and the sizes.
import { type Gpu, gpu } from "../gpu/device.ts";
import { kernelPath } from "./path.ts";

/**
 * `naive`: the specification, any shape. `register`: 4 × 8 per thread, aligned shapes. `subgroup4` and
 * `subgroup8`: 32 × 32 per subgroup of a software device. `staged`: 64 × 64 per workgroup, for GPUs.
 * `subgroup_matrix`: 128 × 128 on tensor cores, inputs rounded to f16.
 */
export type MatmulVariant =
  | "naive"
  | "register"
  | "subgroup4"
  | "subgroup8"
  | "staged"
  | "subgroup_matrix";

/** A variant, and the rows of its tile. */
export interface MatmulChoice {
  variant: MatmulVariant;
  tile: number;
}

/** What the choice depends on. */
export interface MatmulWork {
  M: number;
  N: number;
  K: number;
  /** Number of matrices. */
  count: number;
  transposeA: boolean;
  transposeB: boolean;
  transposeY: boolean;
  dtype: string;
  /** All stored rows are whole vec4. */
  aligned: boolean;
}

export type MatmulPrecision = "highest" | "high";

let precision: MatmulPrecision = "highest";

/**
 * How exactly products are computed, as in PyTorch. `"highest"` (the default): f32 throughout. `"high"`:
 * the inputs may be rounded to f16 where the device then computes on tensor cores; sums stay f32. Values
 * beyond 65,504 overflow then, and below 6e-8 vanish. Tensor cores are used for the products that
 * `tuneMatmul` has measured and compared on this device.
 */
export function setMatmulPrecision(next: MatmulPrecision): void {
  precision = next;
}

// A subgroup kernel takes a software device 0.2 to 1 second to compile once, less the fewer rows it has.
// Below this much work the others lose less than 0.1 ms a call; unaligned shapes need a variant of
// their own, so more; for transposed results there is but the naive kernel else, so less.
const WORTH_COMPILING = 2 ** 15; // for each row of the tile
const UNALIGNED = 8;
const TRANSPOSED = 1 / 8;
// A staged tile has at least 64 rows and columns: with few of them most of it idles.
const LEAST_STAGED = 8;

let forced: MatmulChoice | null = null;

/** Uses one variant for everything that it can compute, for tests and benches; null: choose. */
export function forceMatmulVariant(variant: MatmulVariant | null, tile?: number): void {
  forced = variant && { variant, tile: tile ?? 0 };
}

const tuned = new Map<string, MatmulChoice>();

/** Choices that were measured, by `workClass`; see matmul_tune.ts. */
export function tunedChoices(): Map<string, MatmulChoice> {
  return tuned;
}

/** Products that are likely to want one choice: layout, type, and sizes by powers of two. */
export function workClass(w: MatmulWork): string {
  const size = (n: number) => Math.round(Math.log2(n));
  const layout = `${w.transposeA ? "T" : "N"}${w.transposeB ? "T" : "N"}${w.transposeY ? "T" : "N"}`;
  const sizes = [w.M, w.N, w.K, w.count].map(size).join("x");
  return [layout, w.dtype, sizes, w.aligned ? "aligned" : "ragged", precision].join(" ");
}

export function chooseVariant(work: MatmulWork): MatmulChoice {
  const simple = simplest(work);
  if (work.K === 0) return simple; // the others' loops ask at their ends
  if (forced) return forced.variant === "register" ? simple : withTile(forced, work);
  if (kernelPath() === "plain") return { variant: "naive", tile: 0 };
  const known = tuned.size > 0 ? tuned.get(workClass(work)) : undefined;
  return known ?? rule(work, simple);
}

/** The choice that needs no measurement. */
function rule(work: MatmulWork, simple: MatmulChoice): MatmulChoice {
  const { M, N, K, count, aligned, transposeY } = work;
  const device = gpu("matmul");
  if (device.adapterClass === "gpu") {
    if (Math.min(M, N) < LEAST_STAGED) return simple;
    return withTile({ variant: "staged", tile: 0 }, work);
  }
  const lanes = shuffleLanes(device);
  const own = (aligned ? 1 : UNALIGNED) * (transposeY ? TRANSPOSED : 1);
  const enough = WORTH_COMPILING * tileRows(M) * own;
  const isWorth = count * M * N * K >= enough || kernelPath() === "fast";
  return lanes && isWorth ? withTile({ variant: `subgroup${lanes}`, tile: 0 }, work) : simple;
}

function simplest({ aligned, transposeY }: MatmulWork): MatmulChoice {
  return { variant: aligned && !transposeY ? "register" : "naive", tile: 0 };
}

/** Fills in a tile that was left open: a subgroup kernel's has no more rows than are needed. */
function withTile({ variant, tile }: MatmulChoice, { M }: MatmulWork): MatmulChoice {
  if (variant === "staged") return { variant, tile: 64 };
  if (variant === "subgroup_matrix") return { variant, tile: 128 };
  return { variant, tile: tile || tileRows(M) };
}

function tileRows(M: number): number {
  return [4, 8, 16].find((rows) => M <= rows) ?? 32;
}

/** Everything that this device can run for some work, the rule's own choice first. */
export function matmulCandidates(work: MatmulWork): MatmulChoice[] {
  const device = gpu("matmul");
  const simple = simplest(work);
  const all = [rule(work, simple), simple];
  const lanes = shuffleLanes(device);
  if (lanes) {
    for (const tile of [8, 16, 32]) all.push({ variant: `subgroup${lanes}`, tile });
  }
  if (device.adapterClass === "gpu") {
    all.push({ variant: "staged", tile: 64 });
    if (precision === "high" && hasTensorCores(device)) {
      all.push({ variant: "subgroup_matrix", tile: 128 });
    }
  }
  const seen = new Set<string>();
  return all.filter(({ variant, tile }) => {
    const isNew = !seen.has(`${variant} ${tile}`);
    seen.add(`${variant} ${tile}`);
    return isNew;
  });
}

/** The variants that this device can run. */
export function matmulVariants(): MatmulVariant[] {
  const device = gpu("matmul");
  const lanes = shuffleLanes(device);
  return [
    ...(["naive", "register", "staged"] as const),
    ...(lanes ? ([`subgroup${lanes}`] as const) : []),
    ...(hasTensorCores(device) ? (["subgroup_matrix"] as const) : []),
  ];
}

/** Whether the device multiplies 16 × 16 fragments of f16 into f32, with subgroups of 32. */
function hasTensorCores({ features, info }: Gpu): boolean {
  if (!features.has("chromium-experimental-subgroup-matrix") || !features.has("shader-f16")) {
    return false;
  }
  const { subgroupMatrixConfigs: configs } = info as GPUAdapterInfo & {
    subgroupMatrixConfigs?: Iterable<{
      componentType: string;
      resultComponentType: string;
      M: number;
      N: number;
      K: number;
    }>;
  };
  const fits = [...(configs ?? [])].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16,
  );
  return fits && info.subgroupMinSize === 32 && info.subgroupMaxSize === 32;
}

/** Lanes of the device's subgroups where a kernel is written for that many. */
function shuffleLanes({ features, info, adapterClass }: Gpu): 4 | 8 | null {
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  if (adapterClass === "gpu" || !features.has("subgroups") || least !== most) return null;
  return least === 4 || least === 8 ? least : null;
}
