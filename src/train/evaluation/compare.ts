// Figures of held-out rows with their intervals: of a model alone, and of what an adapter changes.
import { ValueError } from "../../gpu/errors.ts";
import type { Lora } from "../../lora/lora.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { type EvaluateOptions, type RowScore, scoreRows } from "../evaluate.ts";
import type { RowSet } from "../rows.ts";
import {
  type BootstrapOptions,
  bootstrap,
  bootstrapDifference,
  type Estimate,
  mapped,
} from "./bootstrap.ts";

/** What a model makes of a set of rows. */
export interface RowFigures {
  /** Mean cross-entropy of a token, in nats. */
  loss: Estimate;
  /** exp(loss). */
  perplexity: Estimate;
  /** Share of the tokens that are the likeliest. */
  accuracy: Estimate;
  rows: number;
  tokens: number;
}

/** After − before, of the same rows. On general text the difference of the loss is what was forgotten. */
export interface RowDifference {
  loss: Estimate;
  accuracy: Estimate;
}

/** The scores of all rows, as `scoreRows` gives them. */
export async function scoresOf(
  model: CausalLM,
  rows: RowSet,
  options: EvaluateOptions & { onRow?: (done: number, of: number) => void } = {},
): Promise<RowScore[]> {
  const { onRow, ...others } = options;
  const scores: RowScore[] = [];
  const of = Math.min(rows.count, options.most ?? Infinity);
  for await (const score of scoreRows(model, rows, others)) {
    scores.push(score);
    onRow?.(scores.length, of);
  }
  return scores;
}

/**
 * Loss, perplexity and accuracy of scored rows.
 * @throws ValueError where no target counts
 */
export function figuresOf(scores: readonly RowScore[], options: BootstrapOptions = {}): RowFigures {
  const tokens = scores.map((s) => s.tokens);
  const loss = bootstrap(scores.map((s) => s.loss), tokens, options); // biome-ignore format: one line
  const shares = { ...options, bounds: [0, 1] as const };
  return {
    loss,
    perplexity: mapped(loss, Math.exp),
    accuracy: bootstrap(scores.map((s) => s.right), tokens, shares), // biome-ignore format: one line
    rows: scores.length,
    tokens: tokens.reduce((a, b) => a + b, 0),
  };
}

/**
 * What changed between two scorings of the same rows, drawn in pairs.
 * @throws ValueError where the rows are not the same
 */
export function differenceOf(
  before: readonly RowScore[],
  after: readonly RowScore[],
  options: BootstrapOptions = {},
): RowDifference {
  const isSame = (s: RowScore, i: number) =>
    s.row === after[i]?.row && s.tokens === after[i]?.tokens;
  if (before.length !== after.length || !before.every(isSame)) {
    const facts = { expected: "of the rows of before", got: "others" };
    throw new ValueError({ op: "differenceOf", arg: "after", ...facts });
  }
  const counts = before.map((s) => s.tokens);
  const of = (key: "loss" | "right", more: BootstrapOptions) =>
    bootstrapDifference(before.map((s) => s[key]), after.map((s) => s[key]), counts, more); // biome-ignore format: one line
  return { loss: of("loss", options), accuracy: of("right", { ...options, bounds: [0, 1] }) };
}

/**
 * Runs work with a model's adapters off, and switches them on again, whatever happens. Nothing is loaded.
 * @throws ValueError where an adapter trains the base's biases, which stay when it is off
 */
export async function withoutAdapters<T>(lora: Lora, work: () => Promise<T>): Promise<T> {
  const biased = lora.adapters.find((name) => lora.config(name).bias !== "none");
  if (biased !== undefined) {
    const hint = "Score the base before the adapter is loaded.";
    const facts = { expected: "of bias none, for trained biases stay in the base", got: biased };
    throw new ValueError({ op: "withoutAdapters", arg: "the adapters", ...facts, hint });
  }
  return lora.withoutAdapters(work);
}

/**
 * A set of rows before and after: by the base alone, and by the active adapters.
 * @throws as `withoutAdapters` and `evaluate`
 */
export async function compareWithBase(
  model: CausalLM,
  lora: Lora,
  rows: RowSet,
  options: EvaluateOptions & BootstrapOptions = {},
): Promise<{ base: RowFigures; adapted: RowFigures; difference: RowDifference }> {
  const before = await withoutAdapters(lora, () => scoresOf(model, rows, options));
  const after = await scoresOf(model, rows, options);
  return {
    base: figuresOf(before, options),
    adapted: figuresOf(after, options),
    difference: differenceOf(before, after, options),
  };
}
