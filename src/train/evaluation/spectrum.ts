// The spectrum of a low-rank update: the singular values of s·B·A, which is never formed.
//   B = Q₁·R₁ and Aᵀ = Q₂·R₂ with orthonormal Q, so s·B·A = Q₁·(s·R₁·R₂ᵀ)·Q₂ᵀ has the singular values of s·R₁·R₂ᵀ, [r, r]
import { FormatError } from "../../gpu/errors.ts";
import { columnsOf, product, qr, rowsOf, svd, transposed } from "../../lora/linalg.ts";
import type { Lora } from "../../lora/lora.ts";
import type { LoraWeights } from "../../lora/lora_weights.ts";

/** The update of one layer, s·B·A. */
export interface Update {
  /** [r, in], row-major. */
  A: ArrayLike<number>;
  /** [out, r], row-major. */
  B: ArrayLike<number>;
  r: number;
  in: number;
  out: number;
  /** s. */
  scaling: number;
}

export interface Spectrum {
  r: number;
  /** Singular values, falling; at most r of them, fewer where a side of the layer is shorter. */
  values: number[];
  /** ‖s·B·A‖, the root of the sum of their squares. */
  norm: number;
  /** Σ σᵢ² / σ₁² (Rudelson & Vershynin 2007, arXiv math/0503442): how many directions are as strong as the first; 0 of no update. */
  stableRank: number;
  /** How many singular values hold half of the energy Σ σᵢ². */
  rank50: number;
  /** And 90 % of it. */
  rank90: number;
}

/**
 * The singular values of an update, in float64.
 * @throws FormatError where the update is not finite
 */
export function spectrumOf({ A, B, r, in: inner, out, scaling }: Update): Spectrum {
  const R1 = qr(columnsOf(B, out, r)).R; // [min(out, r), r]
  const R2 = qr(rowsOf(A, r, inner)).R; // [min(in, r), r]
  const core = product(R1, transposed(R2));
  if (!core.every((column) => column.every(Number.isFinite))) {
    throw new FormatError({
      op: "spectrum",
      arg: "A and B",
      expected: "finite",
      got: "infinity or NaN",
    });
  }
  const values = Array.from(svd(core).S, (v) => v * Math.abs(scaling));
  return { r, values, ...factsOf(values) };
}

function factsOf(values: readonly number[]): Omit<Spectrum, "r" | "values"> {
  const largest = values[0] ?? 0;
  if (largest === 0) return { norm: 0, stableRank: 0, rank50: 0, rank90: 0 };
  const energies = values.map((v) => (v / largest) ** 2);
  const total = energies.reduce((sum, v) => sum + v, 0);
  return {
    norm: largest * Math.sqrt(total),
    stableRank: total,
    rank50: rankHolding(energies, 0.5 * total),
    rank90: rankHolding(energies, 0.9 * total),
  };
}

/** How many of the first energies together reach a sum; a rounding short of it is enough. */
function rankHolding(energies: readonly number[], sum: number): number {
  let held = 0;
  for (const [i, energy] of energies.entries()) {
    held += energy;
    if (held >= sum * (1 - 1e-12)) return i + 1;
  }
  return energies.length;
}

/**
 * The spectra of an adapter's updates, by the paths of the layers. What PiSSA and OLoRA began with is no part of
 * them; of DoRA they are the updates before rows get their length.
 * @param name  of the adapter. Default: the first active one
 * @throws FormatError where an update is not finite
 */
export async function adapterSpectra(
  lora: Lora,
  name = lora.activeAdapters[0] ?? lora.adapters[0]!,
): Promise<Map<string, Spectrum>> {
  lora.config(name);
  const spectra = new Map<string, Spectrum>();
  for (const [path, layer] of lora.layers) {
    const weights = layer.adapters.get(name);
    if (weights) spectra.set(path, spectrumOf(await updateOf(weights)));
  }
  return spectra;
}

async function updateOf({
  lora_A,
  lora_B,
  sizes,
  r,
  scaling,
  start,
}: LoraWeights): Promise<Update> {
  const [A, B] = [await lora_A.data(), await lora_B.data()];
  const facts = { in: sizes.in, out: sizes.out, scaling };
  if (!start) return { A, B, r, ...facts };
  const [A0, B0] = [await start.A.data(), await start.B.data()];
  return { ...learnt({ A, B }, { A: A0, B: B0 }, r), ...facts };
}

type Pair = Pick<Update, "A" | "B">;

/** B·A − B₀·A₀ as one product: [B | −B₀] · [A; A₀]. */
function learnt(now: Pair, before: Pair, r: number): Pair & { r: number } {
  const A = [...Array.from(now.A), ...Array.from(before.A)];
  const out = now.B.length / r;
  const B = new Float64Array(out * 2 * r);
  for (let o = 0; o < out; o++) {
    for (let k = 0; k < r; k++) {
      B[o * 2 * r + k] = now.B[o * r + k]!;
      B[o * 2 * r + r + k] = -before.B[o * r + k]!;
    }
  }
  return { A: Float64Array.from(A), B, r: 2 * r };
}
