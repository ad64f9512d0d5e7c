// What a run's adapter learnt: the spectra of its updates.
import { fileExists } from "../../tensor/files.ts";
import type { Spectrum } from "../evaluation/spectrum.ts";
import { inspectAdapter } from "../inspect/adapter.ts";

interface LayerSpectrum {
  path: string;
  spectrum: Spectrum;
}

/** Of each layer the spectrum, and what they say. */
export interface Learnt {
  layers: LayerSpectrum[];
  /** About r, in a sentence. */
  advice: string;
  /** What looks wrong, a sentence each. */
  warnings: string[];
}

/** Reads `adapter/` of a run's folder; null where there is none. One that cannot be read is a warning. */
export async function readLearnt(folder: string): Promise<Learnt | null> {
  const adapter = `${folder}/adapter`;
  if (!(await fileExists(`${adapter}/adapter_config.json`))) return null;
  try {
    const { layers, advice, warnings } = await inspectAdapter(adapter);
    const whole = layers.flatMap(({ path, spectrum }) => (spectrum ? [{ path, spectrum }] : []));
    return { layers: whole, advice: advice?.text ?? "", warnings };
  } catch (error) {
    return { layers: [], advice: "", warnings: [(error as Error).message] };
  }
}
