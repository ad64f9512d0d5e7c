// The demo's self-check: what must be true of a LoRA that was trained, and what was seen.
import { createHash } from "node:crypto";
import { backward } from "../../src/autograd/backward.ts";
import type { Lora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import type { Batch } from "../../src/train/windows.ts";

export interface Check {
  name: string;
  good: boolean;
  /** The figures behind the answer. */
  seen: string;
}

/** Merged and unmerged logits may differ by this share of the largest logit. */
export const MERGE_BOUND = 1e-5;

/** The largest magnitude; NaN where one is not finite. */
async function largest(t: Tensor): Promise<number> {
  const values = (await t.data()) as Float32Array;
  return values.reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : NaN), 0);
}

/** Every lora_B, which begins as zeros, was trained. */
export async function everyBMoved(lora: Lora): Promise<Check> {
  const sizes = [];
  for (const { active } of lora.layers.values()) {
    for (const { lora_B } of active) sizes.push(await largest(lora_B));
  }
  const moved = sizes.filter((size) => size > 0).length;
  const least = Math.min(...sizes).toExponential(1);
  return {
    name: "every lora_B moved away from zero",
    good: sizes.length > 0 && moved === sizes.length,
    seen: `${moved} of ${sizes.length}, each with a largest |b| of ${least} or more`,
  };
}

/**
 * Every tensor of the adapter gets a gradient, and none of the base's got one: not here, and not in the
 * training before, which clears the gradients of what it trains alone.
 */
export async function onlyAdaptersGetGradients(
  model: CausalLM,
  lora: Lora,
  { ids, targets }: Batch,
): Promise<Check> {
  using _ = scope();
  const own = new Set(lora.parameters());
  backward(model.loss(ids, targets));
  let adapters = 0;
  let least = Infinity;
  for (const p of own) {
    const size = p.grad ? await largest(p.grad) : 0;
    if (size > 0) adapters++;
    least = Math.min(least, size);
    p.grad?.dispose();
    p.grad = null;
  }
  const base = model.parameters().filter((p) => !own.has(p));
  const leaks = base.filter((p) => p.grad).length;
  const size = `each with a largest |g| of ${least.toExponential(1)} or more`;
  return {
    name: "adapters alone have gradients",
    good: own.size > 0 && adapters === own.size && leaks === 0,
    seen: `${adapters} of ${own.size} adapter tensors, ${size}; ${leaks} of ${base.length} base tensors`,
  };
}

/** SHA-256 of the bytes of tensors, one after the other. */
export async function hashOf(tensors: readonly Tensor[]): Promise<string> {
  const hash = createHash("sha256");
  for (const t of tensors) hash.update(await t.rawBytes());
  return hash.digest("hex");
}

/** Hashes of the base before training and at the end are the same. */
export function baseUnchanged(before: string, after: string): Check {
  return {
    name: "the base's bytes are unchanged by training, merging and unmerging",
    good: before === after,
    seen: `SHA-256 ${before.slice(0, 12)}… before, ${after.slice(0, 12)}… after`,
  };
}

/** Logits of the trained model and of one made of the base's and the adapter's files are the same bits. */
export function sameLogits(trained: Float32Array, reloaded: Float32Array): Check {
  const equal = trained.filter((v, i) => Object.is(v, reloaded[i])).length;
  return {
    name: "the adapter read from disk gives the same logits bit for bit",
    good: equal > 0 && equal === trained.length && equal === reloaded.length,
    seen: `${equal} of ${trained.length} logits`,
  };
}

/** The largest difference of logits is within the bound. */
export function mergedEqualsUnmerged(merge: { difference: number; largestLogit: number }): Check {
  const share = merge.difference / merge.largestLogit;
  return {
    name: "merged equals unmerged",
    good: share <= MERGE_BOUND,
    seen: `they differ by ${share.toExponential(1)} of the largest logit; the bound is ${MERGE_BOUND.toExponential(0)}`,
  };
}

/** One line for each check. */
export function checkLines(checks: readonly Check[]): string {
  return checks
    .map(({ name, good, seen }) => `  ${good ? "ok    " : "FAILED"}  ${name}: ${seen}`)
    .join("\n");
}
