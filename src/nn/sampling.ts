// From logits to a token: the processors of Hugging Face Transformers, in their order, and the draw.
import { philox4x32 } from "../tensor/philox.ts";

export interface Sampling {
  /** 0 takes the likeliest token; otherwise logits are divided by it and a token is drawn. Default 0. */
  temperature?: number;
  /** Draw among the k likeliest tokens only (and those as likely as the last of them). Default: all. */
  topK?: number;
  /** Draw among the likeliest tokens that together hold this probability. Default 1. */
  topP?: number;
  /** Draw among tokens at least this many times as likely as the likeliest. Default 0. */
  minP?: number;
  /**
   * Logits of tokens that the row already holds, prompt included, are divided by it where they are
   * positive and multiplied where they are not (Keskar et al. 2019, arXiv 1909.05858). Default 1.
   */
  repetitionPenalty?: number;
}

/**
 * Applies penalty, temperature, top-k, top-p and min-p, in this order; tokens that are out become −∞.
 * With temperature 0 the penalty alone.
 * @param logits  [V]; changed in place
 * @param seen  tokens that the row holds already
 */
export function processLogits(
  logits: Float32Array,
  seen: Iterable<number>,
  sampling: Sampling,
): Float32Array {
  const { temperature = 0, topK = Infinity, topP = 1, minP = 0, repetitionPenalty = 1 } = sampling;
  if (repetitionPenalty !== 1) penalise(logits, seen, repetitionPenalty);
  if (temperature === 0) return logits;
  if (temperature !== 1) for (let i = 0; i < logits.length; i++) logits[i]! /= temperature;
  if (topK < logits.length) cutBelow(logits, kthLargest(logits, topK));
  if (topP < 1) keepNucleus(logits, topP);
  if (minP > 0) cutBelow(logits, largest(logits) + Math.log(minP));
  return logits;
}

function penalise(logits: Float32Array, seen: Iterable<number>, penalty: number): void {
  for (const id of new Set(seen)) {
    const v = logits[id]!;
    logits[id] = v < 0 ? v * penalty : v / penalty;
  }
}

function largest(logits: Float32Array): number {
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > most) most = logits[i]!;
  return most;
}

function cutBelow(logits: Float32Array, bound: number): void {
  for (let i = 0; i < logits.length; i++) if (logits[i]! < bound) logits[i] = -Infinity;
}

/** The k-th largest value (k from 1), by Hoare's selection: no need to sort a whole vocabulary. */
function kthLargest(logits: Float32Array, k: number): number {
  const values = logits.slice();
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const pivot = values[(low + high) >> 1]!;
    let [i, j] = [low, high];
    while (i <= j) {
      while (values[i]! > pivot) i += 1;
      while (values[j]! < pivot) j -= 1;
      if (i > j) break;
      [values[i], values[j]] = [values[j]!, values[i]!];
      i += 1;
      j -= 1;
    }
    if (k - 1 <= j) high = j;
    else if (k - 1 >= i) low = i;
    else break;
  }
  return values[k - 1]!;
}

/** Keeps the likeliest tokens, each of which has less than `topP` of the probability before it. */
function keepNucleus(logits: Float32Array, topP: number): void {
  const most = largest(logits);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - most);
  // Sorting the likely ones is enough, unless the others hold more than what may be left out.
  const likely = sorted(logits, most - LIKELY);
  const mass = likely.reduce((sum, v) => sum + Math.exp(v - most), 0);
  const values = mass < topP * total ? sorted(logits, -Infinity) : likely;
  let before = 0;
  let kept = 0;
  while (kept < values.length && before < topP * total) {
    kept += 1;
    before += Math.exp(values[values.length - kept]! - most);
  }
  const bound = values[values.length - kept]!;
  // Of equals at the edge those with the lowest ids.
  let equals = 0;
  for (let i = values.length - kept; i < values.length && values[i] === bound; i++) equals += 1;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] === bound && equals-- > 0) continue;
    if (logits[i]! <= bound) logits[i] = -Infinity;
  }
}

const LIKELY = 16;

/** The values from `bound` on, ascending. */
function sorted(logits: Float32Array, bound: number): Float32Array {
  return logits.filter((v) => v >= bound).sort();
}

/** The first of the largest. */
export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Less likely than e^−60 times the likeliest: never drawn, for a chance has 32 bits. */
const NEGLIGIBLE = -60;

/**
 * A token with the probability that its logit gives it.
 * @param logits  [V]; −∞ is never drawn
 * @param chance  in [0, 1)
 */
export function draw(logits: Float32Array, chance: number): number {
  const most = largest(logits);
  const weight = (i: number) => {
    const distance = logits[i]! - most;
    return distance < NEGLIGIBLE ? 0 : Math.exp(distance);
  };
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weight(i);
  let left = chance * total;
  let last = 0;
  for (let i = 0; i < logits.length; i++) {
    const w = weight(i);
    if (w === 0) continue;
    last = i;
    left -= w;
    if (left < 0) return i;
  }
  return last;
}

/** The random number of a step and a row: a pure function of these and the seed. In [0, 1). */
export function chanceOf(seed: number, step: number, row: number): number {
  const [word] = philox4x32([step >>> 0, row >>> 0, 0, 0], [seed >>> 0, 0x67656e]);
  return word / 2 ** 32;
}
