// How several adapters become one: PEFT's rules for weighted sums of their factors or of their updates.
// All of it runs on the CPU in float64, on values that were read back; the weights w carry the scales.
import { ValueError } from "../gpu/errors.ts";
import { nextKeyWords, philox4x32 } from "../tensor/philox.ts";

export type CombinationType =
  | "linear"
  | "cat"
  | "svd"
  | "ties"
  | "dare_linear"
  | "dare_ties"
  | "magnitude_prune"
  | "ties_svd"
  | "dare_linear_svd"
  | "dare_ties_svd"
  | "magnitude_prune_svd";

export const COMBINATIONS: readonly CombinationType[] = [
  "linear",
  "cat",
  "svd",
  "ties",
  "dare_linear",
  "dare_ties",
  "magnitude_prune",
  "ties_svd",
  "dare_linear_svd",
  "dare_ties_svd",
  "magnitude_prune_svd",
];

/** How signs are elected: by the sum of the values or by their number. */
export type MajoritySign = "total" | "frequency";

export interface Rule {
  type: CombinationType;
  /** Share of the values that stay, for the types that prune. */
  density: number;
  majority_sign_method: MajoritySign;
}

/** Throws ValueError unless a rule is complete. */
export function checkRule(op: string, type: string, density: number | undefined): void {
  if (!(COMBINATIONS as readonly string[]).includes(type)) {
    const expected = `one of ${COMBINATIONS.join(", ")}`;
    throw new ValueError({ op, arg: "combination_type", expected, got: type });
  }
  if (!/ties|dare|magnitude/.test(type)) return;
  const least = type.startsWith("dare") ? "above 0 and" : "in [0, 1],";
  const good = density !== undefined && density >= 0 && density <= 1;
  if (good && (density > 0 || !type.startsWith("dare"))) return;
  const expected = `given, ${least} at most 1, for ${type}`;
  throw new ValueError({ op, arg: "density", expected, got: `${density}` });
}

/** The sum of weighted tensors, pruned and elected as the rule says (`_svd` and `svd` as without it). */
export function combined(
  tensors: readonly Float64Array[],
  weights: readonly number[],
  { type, density, majority_sign_method }: Rule,
): Float64Array {
  const kind = type.replace(/_?svd$/, "");
  const pruned =
    kind === "ties" || kind === "magnitude_prune"
      ? tensors.map((t) => largestOf(t, density))
      : kind.startsWith("dare")
        ? tensors.map((t) => randomOf(t, density))
        : tensors;
  if (kind === "ties" || kind === "dare_ties")
    return elected(pruned, weights, majority_sign_method);
  const sum = new Float64Array(tensors[0]!.length);
  for (const [k, t] of pruned.entries())
    for (let i = 0; i < t.length; i++) sum[i]! += weights[k]! * t[i]!;
  return sum;
}

/** The ⌊density·n⌋ values of the largest magnitude; 0 for the others. Of equals the first stay. */
function largestOf(t: Float64Array, density: number): Float64Array {
  if (density >= 1) return t;
  const order = Uint32Array.from(t, (_, i) => i);
  order.sort((a, b) => Math.abs(t[b]!) - Math.abs(t[a]!) || a - b);
  const kept = new Float64Array(t.length);
  for (const i of order.subarray(0, Math.floor(density * t.length))) kept[i] = t[i]!;
  return kept;
}

/** Each value with probability `density`, divided by it (Yu et al. 2023, arXiv 2311.03099). */
function randomOf(t: Float64Array, density: number): Float64Array {
  if (density >= 1) return t;
  const key = nextKeyWords();
  return t.map((v, i) => {
    const word = philox4x32([Math.floor(i / 4), 0, 0, 0], key)[i % 4]!;
    return word < density * 2 ** 32 ? v / density : 0;
  });
}

/**
 * At each place the mean of the weighted values that have the sign of the majority (Yadav et al. 2023,
 * arXiv 2306.01708).
 */
function elected(
  tensors: readonly Float64Array[],
  weights: readonly number[],
  method: MajoritySign,
): Float64Array {
  return Float64Array.from({ length: tensors[0]!.length }, (_, i) => {
    const vote = tensors.reduce(
      (sum, t) => sum + (method === "total" ? t[i]! : Math.sign(t[i]!)),
      0,
    );
    const sign = vote >= 0 ? 1 : -1;
    let [sum, count] = [0, 0];
    for (const [k, t] of tensors.entries()) {
      if (Math.sign(t[i]!) !== sign) continue;
      sum += weights[k]! * t[i]!;
      count += 1;
    }
    return sum / Math.max(count, 1);
  });
}
