// What the spectra of a trained adapter say about its rank.
import type { Spectrum } from "./spectrum.ts";

export interface RankAdvice {
  /**
   * `smaller`: most of what was learnt lies in fewer directions; `larger`: all directions are used about alike;
   * `fits`: neither; `nothing`: no layer has an update; `unknown`: rank 1, which has one direction.
   */
  verdict: "smaller" | "larger" | "fits" | "nothing" | "unknown";
  /** The rank to try: a power of two, but where it is the present one. */
  r: number;
  /** The adapter's rank: the largest of its layers. */
  rank: number;
  /** Of layers with an update: the middle one's rank that holds 90 % of the energy, and the largest. */
  rank90: { median: number; largest: number };
  /** Layers whose update is zero. */
  zeroLayers: string[];
  /** The advice in a sentence. */
  text: string;
}

/** In a flat spectrum 90 % of the energy takes at least this share of the rank. */
const FLAT = 0.8;
/** The rank must do for this share of the layers. */
const MOST_LAYERS = 0.9;

/**
 * Advice on r. What was learnt is at most of rank r, so a spectrum can show that r was too large, and only hint that
 * it was too small: whether a larger one helps, a run tells.
 * @param spectra  by the paths of the layers
 */
export function rankAdvice(spectra: ReadonlyMap<string, Spectrum>): RankAdvice {
  const zeroLayers = [...spectra].filter(([, s]) => s.norm === 0).map(([path]) => path);
  const layers = [...spectra.values()].filter(({ norm }) => norm > 0);
  const rank = Math.max(0, ...Array.from(spectra.values(), ({ r }) => r));
  if (layers.length === 0) {
    const text = "No layer has an update: B is zero everywhere, so this adapter changes nothing.";
    const rank90 = { median: 0, largest: 0 };
    return { verdict: "nothing", r: rank, rank, rank90, zeroLayers, text };
  }
  const ranks = layers.map(({ rank90 }) => rank90).sort((a, b) => a - b);
  const rank90 = { median: at(ranks, 0.5), largest: ranks.at(-1)! };
  const enough = 2 ** Math.ceil(Math.log2(at(ranks, MOST_LAYERS)));
  const shares = layers.map((s) => s.rank90 / s.r).sort((a, b) => a - b);
  const common = { rank, rank90, zeroLayers };
  if (rank === 1) {
    const text =
      "Rank 1 has one direction: whether more would be used, only a run with a larger r tells.";
    return { verdict: "unknown", r: 1, ...common, text };
  }
  const held = `90 % of the energy lies in rank ${rank90.median} of ${rank}`;
  const where =
    ranks.length > 1 ? ` (median of ${ranks.length} layers; ${rank90.largest} at most)` : "";
  if (enough <= rank / 2) {
    const text = `${held}${where}: r = ${enough} would do.`;
    return { verdict: "smaller", r: enough, ...common, text };
  }
  if (at(shares, 0.5) >= FLAT) {
    const text = `${held}${where}: the spectrum is flat, so a larger r may learn more. Try r = ${2 * rank}.`;
    return { verdict: "larger", r: 2 * rank, ...common, text };
  }
  return { verdict: "fits", r: rank, ...common, text: `${held}${where}: r = ${rank} fits.` };
}

/** The value that a share of sorted values does not exceed. */
function at(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
}
