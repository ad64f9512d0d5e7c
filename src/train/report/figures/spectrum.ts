// The spectrum of what an adapter learnt: how much of the update would fit into a smaller rank.
import { colourOf, type Figure, table } from "../figure.ts";
import { percent } from "../format.ts";
import type { Learnt } from "../learnt.ts";
import { axes, level, line, type Mark } from "../marks.ts";
import { plot } from "../plot.ts";

const MOST_KINDS = 8;

/** Shares of the energy Σ σᵢ² that the first k singular values hold, from k = 0 on. */
function held(values: readonly number[]): number[] {
  const energies = values.map((v) => v * v);
  const total = energies.reduce((a, b) => a + b, 0);
  let sum = 0;
  const shares = energies.map((energy) => {
    sum += energy;
    return sum / total;
  });
  return [0, ...shares];
}

/** The mean over layers at each rank; shorter spectra are whole from their end on. */
function mean(curves: readonly number[][], length: number): Mark[] {
  return Array.from({ length }, (_, k) => {
    const sum = curves.reduce((total, curve) => total + (curve[k] ?? 1), 0);
    return { x: k, y: sum / curves.length };
  });
}

/** The energy held by the first singular values, a line for each kind of layer. */
export async function spectrumFigure(learnt: Learnt | null): Promise<Figure | null> {
  const { layers = [], advice = "" } = learnt ?? {};
  const seen = layers.filter(({ spectrum }) => spectrum.norm > 0);
  if (seen.length === 0) return null;
  const r = Math.max(...seen.map(({ spectrum }) => spectrum.values.length));
  const kindOf = (path: string) => path.split(".").at(-1)!;
  const kinds = [...new Set(seen.map(({ path }) => kindOf(path)))].slice(0, MOST_KINDS);
  const lines = kinds.map((kind, i) => {
    const curves = seen
      .filter(({ path }) => kindOf(path) === kind)
      .map(({ spectrum }) => held(spectrum.values));
    return line(mean(curves, r + 1), { colour: colourOf(i), width: 1.8 });
  });
  return {
    title: "Spectrum of the update",
    about: `Share of the energy Σσ² of s·B·A in its first directions, a mean over the layers of a kind. ${advice}`,
    size: "half",
    plot: await plot(`Energy held by rank. ${advice}`, "half", () => ({
      height: 230,
      encoding: axes(
        { title: "rank", domain: [0, r], format: "d" },
        { domain: [0, 1.02], values: [0, 0.25, 0.5, 0.75, 0.9, 1], format: "~%" },
      ),
      layer: [level(0.5), level(0.9), ...lines],
    })),
    key: kinds.map((name, i) => ({ name, colour: colourOf(i), shape: "line" })),
    numbers: table(
      ["layer", "r", "rank of 50 %", "rank of 90 %", "‖s·B·A‖", "in the first"],
      layers.map(({ path, spectrum: s }) => [
        path,
        s.r,
        s.rank50,
        s.rank90,
        s.norm.toPrecision(3),
        s.norm > 0 ? percent(held(s.values)[1]!) : "–",
      ]),
    ),
  };
}
