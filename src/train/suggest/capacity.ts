// Whether an adapter has room for what the data says.

/** Bits that a trained parameter can hold (Allen-Zhu & Li 2024, arXiv 2404.05405; Schulman et al. 2025). */
const BITS_PER_PARAMETER = 2;
/** What a byte of text says, about: English has one bit a letter (Shannon 1951, "Prediction and entropy of printed English"). */
const BITS_PER_BYTE = 1;
/** An adapter with so many times the room that the data needs can learn it by heart. */
const AMPLE = 4;

/** `90 bit`, `320 kbit`, `2.7 Mbit`. */
export function bitsText(bits: number): string {
  const at = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.max(bits, 1)) / 3)));
  return `${Number((bits / 1000 ** at).toPrecision(2))} ${["", "k", "M", "G"][at]}bit`;
}

export interface Capacity {
  /** Bits of the text that is learnt, each token counted once, as far as training gets. */
  data: number;
  /** Bits that what is trained can hold. */
  adapter: number;
  /** `short`: the data says more than that; `ample`: it can be learnt by heart. */
  verdict: "short" | "fits" | "ample";
  /** By which factor the rank would have to be larger; 1 where it need not. */
  factor: number;
}

/**
 * Compares both. The estimate is rough: what the base knows already needs no room, and code says less per byte than prose.
 * @param bytes  of the text that is learnt
 * @param trainable  parameters that are trained
 */
export function capacityOf(bytes: number, trainable: number): Capacity {
  const [data, adapter] = [BITS_PER_BYTE * bytes, BITS_PER_PARAMETER * trainable];
  const verdict = data > adapter ? "short" : adapter >= AMPLE * data ? "ample" : "fits";
  return { data, adapter, verdict, factor: Math.max(1, data / adapter) };
}
