// Adapters made of others: PEFT's `add_weighted_adapter`.
import { ValueError } from "../gpu/errors.ts";
import { copyStorage } from "../nn/optim/arena.ts";
import { tensor } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  type CombinationType,
  checkRule,
  combined,
  type MajoritySign,
  type Rule,
} from "./combine.ts";
import type { CompleteLoraConfig, LoraConfig } from "./config.ts";
import { columnsOf, product, svd } from "./linalg.ts";
import type { Lora } from "./lora.ts";
import type { LoraLayer } from "./lora_layer.ts";

export interface WeightedOptions {
  /**
   * `linear`: weighted sums of the A's and of the B's, which is not the sum of the updates; `cat`: that
   * sum, with the sum of the ranks; `svd`: the best update of `svd_rank` to it. `ties`, `dare_linear`,
   * `dare_ties`, `magnitude_prune` prune A and B before, and with `_svd` the updates. Default `svd`.
   */
  combination_type?: CombinationType;
  /** Rank of the new adapter for `svd` and `…_svd`. Default: the largest. */
  svd_rank?: number;
  /** Share of the values that stay, for the types that prune. */
  density?: number;
  /** How `ties` elects signs. Default `total`. */
  majority_sign_method?: MajoritySign;
}

/** One adapter's values at one layer. */
interface Part {
  r: number;
  /** w. */
  weight: number;
  /** s. */
  scaling: number;
  /** [r, in] and [out, r], row-major. */
  A: Float64Array;
  B: Float64Array;
}

const op = "addWeightedAdapter";

/**
 * Adds an adapter that is a combination of others, not active yet; its scale is 1. Values as in PEFT,
 * but for what dare draws.
 * @param adapters  names of plain adapters, of equal ranks for all types but cat and svd
 * @param weights  one factor for each; negative ones subtract
 * @throws ValueError where the adapters do not fit each other; nothing is changed then
 */
export async function addWeightedAdapter(
  lora: Lora,
  adapters: readonly string[],
  weights: readonly number[],
  name: string,
  options: WeightedOptions = {},
): Promise<void> {
  const configs = adapters.map((a) => lora.config(a));
  const { rule, config } = plan(lora, adapters, configs, weights, options);
  const parts = new Map<string, Part[]>();
  for (const [path, layer] of lora.layers) parts.set(path, await partsOf(layer, adapters, weights));
  lora.addAdapter(name, config);
  using _ = scope();
  for (const [path, layer] of lora.layers) {
    const update = layer.adapters.get(name);
    const own = parts.get(path)!;
    if (!update || own.length === 0) continue;
    const sizes = { in: update.sizes.in, out: update.sizes.out, r: update.r };
    const { A, B } = pairOf(own, rule, sizes);
    write(A, update.lora_A);
    write(B, update.lora_B);
  }
}

function pairOf(parts: readonly Part[], rule: Rule, sizes: Sizes): Pair {
  if (rule.type === "cat") return sideBySide(parts, sizes);
  return rule.type.endsWith("svd") ? best(parts, rule, sizes) : factors(parts, rule);
}

function write(values: Float64Array, target: Tensor): void {
  const t = tensor(Float32Array.from(values), target.shape);
  copyStorage(t.storage, target.storage, target.bytes);
}

function refuse(arg: string, expected: string, got: string): never {
  throw new ValueError({ op, arg, expected, got });
}

function plan(
  lora: Lora,
  adapters: readonly string[],
  configs: readonly CompleteLoraConfig[],
  weights: readonly number[],
  options: WeightedOptions,
): { rule: Rule; config: LoraConfig } {
  const { svd_rank, density, majority_sign_method = "total" } = options;
  const asked = options.combination_type ?? "svd";
  checkRule(op, asked, density);
  const type = adapters.length === 1 ? "linear" : asked;
  if (adapters.length === 0) refuse("adapters", "at least one name", "none");
  const finite = weights.every(Number.isFinite);
  if (weights.length !== adapters.length || !finite) {
    refuse("weights", `${adapters.length} finite numbers`, JSON.stringify(weights));
  }
  for (const [i, { use_dora, lora_bias }] of configs.entries()) {
    if (use_dora || lora_bias) refuse("adapters", "without DoRA and lora_bias", adapters[i]!);
  }
  for (const [path, { copies }] of lora.saved) {
    const owners = adapters.filter((a) => copies.has(a));
    if (owners.length > 1)
      refuse("adapters", `at most one with a copy of ${path}`, owners.join(", "));
  }
  const ranks = configs.map(({ r, rank_pattern }) => Math.max(r, ...Object.values(rank_pattern)));
  const [largest, sum] = [Math.max(...ranks), ranks.reduce((a, b) => a + b)];
  const byFactors = type !== "cat" && !type.endsWith("svd");
  if (byFactors && ranks.some((r) => r !== ranks[0])) {
    refuse("adapters", `of one rank for ${type}`, `ranks ${ranks.join(", ")}`);
  }
  const r = type === "cat" ? sum : byFactors ? largest : (svd_rank ?? largest);
  if (!(Number.isSafeInteger(r) && r > 0)) refuse("svd_rank", "a positive integer", `${r}`);
  return {
    rule: { type, density: density ?? 1, majority_sign_method },
    config: {
      ...configs[0]!,
      ...{ r, lora_alpha: r, use_rslora: false, rank_pattern: {}, alpha_pattern: {} },
      ...{ target_modules: joined(lora, adapters), init_lora_weights: true },
      ...{ bias: "none", layers_to_transform: null, layers_pattern: null, exclude_modules: null },
    },
  };
}

/** The paths of all layers that any of the adapters changes. */
function joined(lora: Lora, adapters: readonly string[]): string[] {
  const changed = [...lora.layers].filter(([, layer]) =>
    adapters.some((a) => layer.adapters.has(a)),
  );
  return changed.map(([path]) => path);
}

async function partsOf(
  { adapters: updates }: LoraLayer,
  adapters: readonly string[],
  weights: readonly number[],
): Promise<Part[]> {
  const parts: Part[] = [];
  for (const [i, adapter] of adapters.entries()) {
    const update = updates.get(adapter);
    if (!update) continue;
    const A = Float64Array.from(await update.lora_A.data());
    const B = Float64Array.from(await update.lora_B.data());
    parts.push({ r: update.r, weight: weights[i]!, scaling: update.scaling, A, B });
  }
  return parts;
}

interface Sizes {
  in: number;
  out: number;
  r: number;
}

interface Pair {
  A: Float64Array;
  B: Float64Array;
}

/** A's above each other, each times its weight, and B's side by side; zeros where fewer take part. */
function sideBySide(parts: readonly Part[], { in: inner, out, r }: Sizes): Pair {
  const [A, B] = [new Float64Array(r * inner), new Float64Array(out * r)];
  let first = 0;
  for (const part of parts) {
    A.set(
      part.A.map((v) => v * part.weight * part.scaling),
      first * inner,
    );
    for (let o = 0; o < out; o++) {
      B.set(part.B.subarray(o * part.r, (o + 1) * part.r), o * r + first);
    }
    first += part.r;
  }
  return { A, B };
}

/** The rule applied to A's and B's apart, each with the root of the weights; the sign goes to A. */
function factors(parts: readonly Part[], rule: Rule): Pair {
  const scaled = parts.map(({ weight, scaling }) => weight * scaling);
  const roots = scaled.map((w) => Math.sqrt(Math.abs(w)));
  const signed = roots.map((root, i) => (scaled[i]! >= 0 ? root : -root));
  return {
    A: combined(
      parts.map((p) => p.A),
      signed,
      rule,
    ),
    B: combined(
      parts.map((p) => p.B),
      roots,
      rule,
    ),
  };
}

/** The leading part of the rule applied to the updates themselves, U·S in B. */
function best(parts: readonly Part[], rule: Rule, { in: inner, out, r }: Sizes): Pair {
  const updates = parts.map((part) => updateOf(part, inner, out));
  const weights = parts.map((part) => part.weight);
  const { U, S, V } = svd(columnsOf(combined(updates, weights, rule), out, inner));
  const A = new Float64Array(r * inner);
  const B = new Float64Array(out * r);
  for (let k = 0; k < Math.min(r, S.length); k++) {
    A.set(V[k]!, k * inner);
    for (let o = 0; o < out; o++) B[o * r + k] = U[k]![o]! * S[k]!;
  }
  return { A, B };
}

/** s·B·A, row-major [out, in]. */
function updateOf({ A, B, r, scaling }: Part, inner: number, out: number): Float64Array {
  const columns = product(columnsOf(B, out, r), columnsOf(A, r, inner));
  return Float64Array.from({ length: out * inner }, (_, at) => {
    return scaling * columns[at % inner]![Math.floor(at / inner)]!;
  });
}
