// Rotary frequencies and how they are stretched for longer contexts, as Hugging Face Transformers 5
// computes them from `rope_parameters` (older files: `rope_theta` and `rope_scaling`).
import { angleTables } from "../kernels/rope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ConfigReader } from "./config_reader.ts";

/** What a configuration says about rotary positions. */
export type RopeScaling = { theta: number } & (
  | { type: "default" }
  | { type: "linear"; factor: number }
  | { type: "dynamic"; factor: number; original: number }
  | { type: "llama3"; factor: number; low: number; high: number; original: number }
  | YarnScaling
);

interface YarnScaling {
  type: "yarn";
  factor: number;
  original: number;
  /** Rotations within the original context above which a frequency stays, and below which it is divided. */
  betaFast: number;
  betaSlow: number;
  truncate: boolean;
  /** Factor of cosines and sines. */
  amplitude: number;
}

/**
 * Reads the rotary fields of a configuration.
 * @param maxPositions  its `max_position_embeddings`
 * @param defaultTheta  `rope_theta` of a file that has none
 */
export function readRope(
  reader: ConfigReader,
  maxPositions: number,
  defaultTheta: number,
  ignored: ReadonlySet<string>,
): RopeScaling {
  const [now, before] = [reader.raw("rope_parameters"), reader.raw("rope_scaling")];
  if (now && before && JSON.stringify(now) !== JSON.stringify(before)) {
    reader.refuse("rope_scaling", `rope_parameters, ${JSON.stringify(now)}, or absent`, before);
  }
  const outer = reader.positive("rope_theta", defaultTheta);
  if ((reader.raw("partial_rotary_factor") ?? 1) !== 1) {
    reader.refuse("partial_rotary_factor", "1", reader.raw("partial_rotary_factor"));
  }
  const fields = reader.object(before ? "rope_scaling" : "rope_parameters");
  if (!fields) return { type: "default", theta: outer };
  const theta = fields.positive("rope_theta", outer);
  const type = fields.raw("rope_type") ?? fields.raw("type") ?? "default";
  fields.raw("type");
  if ((fields.raw("partial_rotary_factor") ?? 1) !== 1) {
    fields.refuse("partial_rotary_factor", "1", fields.raw("partial_rotary_factor"));
  }
  const read = Object.hasOwn(READERS, `${type}`) ? READERS[type as RopeScaling["type"]] : null;
  if (!read) fields.refuse("rope_type", `one of ${Object.keys(READERS).join(", ")}`, type);
  const scaling = read?.(fields, theta, maxPositions) ?? { type: "default" as const, theta };
  if (read) reader.absorb(fields, ignored);
  else reader.problems.push(...fields.problems);
  return scaling;
}

const READERS: Record<
  RopeScaling["type"],
  (fields: ConfigReader, theta: number, maxPositions: number) => RopeScaling
> = {
  default: (_, theta) => ({ type: "default", theta }),
  linear: (fields, theta) => ({ type: "linear", theta, factor: fields.positive("factor") }),
  dynamic(fields, theta, original) {
    fields.raw("original_max_position_embeddings"); // Transformers takes max_position_embeddings
    return { type: "dynamic", theta, factor: fields.positive("factor"), original };
  },
  llama3(fields, theta, maxPositions) {
    const [low, high] = [fields.positive("low_freq_factor"), fields.positive("high_freq_factor")];
    if (high <= low) fields.refuse("high_freq_factor", `more than low_freq_factor = ${low}`, high);
    const original = fields.count("original_max_position_embeddings", maxPositions);
    return { type: "llama3", theta, factor: fields.positive("factor"), low, high, original };
  },
  yarn(fields, theta, maxPositions) {
    const original = fields.count("original_max_position_embeddings", maxPositions);
    const factor = fields.positive("factor", maxPositions / original);
    const [m, all] = [
      fields.positiveOrNull("mscale", null),
      fields.positiveOrNull("mscale_all_dim", null),
    ];
    const grown = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
    const usual = m && all ? grown(m) / grown(all) : grown(1);
    return {
      type: "yarn",
      theta,
      factor,
      original,
      betaFast: fields.positive("beta_fast", 32),
      betaSlow: fields.positive("beta_slow", 1),
      truncate: fields.flag("truncate", true),
      amplitude: fields.positive("attention_factor", usual),
    };
  },
};

/**
 * Turns per position, in radians, of the d/2 pairs of a head.
 * @param d  width of a head
 * @param length  tokens in the longest sequence so far; only `dynamic` asks
 */
export function ropeFrequencies(rope: RopeScaling, d: number, length = 0): Float64Array {
  const plain = (theta: number) =>
    Float64Array.from({ length: d / 2 }, (_, i) => theta ** ((-2 * i) / d));
  switch (rope.type) {
    case "default":
      return plain(rope.theta);
    case "linear":
      return plain(rope.theta).map((f) => f / rope.factor);
    case "dynamic": {
      const { factor, original } = rope;
      const stretch = (factor * Math.max(length, original)) / original - (factor - 1);
      return plain(rope.theta * stretch ** (d / (d - 2)));
    }
    case "llama3":
      return plain(rope.theta).map((f) => {
        // Turns within the original context: many stay as they are, few are slowed by the factor.
        const turns = (rope.original * f) / (2 * Math.PI);
        const kept = Math.min(1, Math.max(0, (turns - rope.low) / (rope.high - rope.low)));
        return (1 - kept) * (f / rope.factor) + kept * f;
      });
    case "yarn":
      return yarn(rope, plain(rope.theta), d);
  }
}

/** YaRN (Peng et al. 2023, arXiv 2309.00071): a linear ramp over the pairs, from kept to divided. */
function yarn(rope: YarnScaling & { theta: number }, plain: Float64Array, d: number): Float64Array {
  const pairOf = (rotations: number) =>
    (d * Math.log(rope.original / (rotations * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const round = rope.truncate ? [Math.floor, Math.ceil] : [(x: number) => x, (x: number) => x];
  const low = Math.max(round[0]!(pairOf(rope.betaFast)), 0);
  const high = Math.min(round[1]!(pairOf(rope.betaSlow)), d - 1);
  const width = high === low ? 0.001 : high - low;
  return plain.map((f, i) => {
    const divided = Math.min(1, Math.max(0, (i - low) / width));
    return divided * (f / rope.factor) + (1 - divided) * f;
  });
}

const FIRST_ROWS = 256;

/** Tables of cosines and sines for `rope`, made as sequences grow and kept. */
export class RopeTables {
  private kept: { cos: Tensor; sin: Tensor; rows: number } | null = null;

  /** @param maxLength  most positions that will be asked for */
  constructor(
    readonly scaling: RopeScaling,
    private readonly d: number,
    private readonly maxLength: number,
  ) {}

  /** Tables that hold the positions offset … offset + T − 1, and the row of the first. */
  at(offset: number, T: number): { cos: Tensor; sin: Tensor; offset: number } {
    const { scaling } = this;
    const length = offset + T;
    const amplitude = scaling.type === "yarn" ? scaling.amplitude : 1;
    if (scaling.type === "dynamic" && length > scaling.original) {
      const frequencies = ropeFrequencies(scaling, this.d, length);
      return { ...angleTables(offset, T, frequencies, amplitude), offset: 0 };
    }
    if (!this.kept || this.kept.rows < length) {
      const rows = Math.min(
        this.maxLength,
        Math.max(FIRST_ROWS, 2 ** Math.ceil(Math.log2(length))),
      );
      const { cos, sin } = angleTables(0, rows, ropeFrequencies(scaling, this.d), amplitude);
      this.dispose();
      this.kept = { cos: cos.persist(), sin: sin.persist(), rows };
      for (const t of [cos, sin]) t.storage.category = "base";
    }
    return { cos: this.kept.cos, sin: this.kept.sin, offset };
  }

  dispose(): void {
    this.kept?.cos.dispose();
    this.kept?.sin.dispose();
    this.kept = null;
  }
}
