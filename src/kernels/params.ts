// The parameters of a dispatch, packed as the kernel's `struct Params` has them.
import { ValueError } from "../gpu/errors.ts";
import { activeRecording, currentValue, type Scalar } from "../gpu/recording.ts";
import type { Field } from "./wgsl_file.ts";

/** Values for every field. A function stands for what may differ in each replay: a number, or all of them. */
export type ParamValues = NamedScalars | (() => NamedScalars);
export type NamedScalars = Readonly<Record<string, Scalar>>;

/** Words in the order of the fields, and what packs them anew where a value may change. */
export interface Packed {
  words: ArrayBuffer;
  repack: (() => void) | null;
}

export class Params {
  /** What eager dispatches are packed into: the words are copied as soon as they are encoded. */
  private readonly scratch: Words;

  constructor(private readonly fields: readonly Field[]) {
    this.scratch = new Words(fields.length);
  }

  /** Throws ValueError unless the values are exactly those of the fields. */
  pack(entry: string, values: ParamValues): Packed {
    if (!activeRecording()) {
      this.fill(entry, this.scratch, values);
      return { words: this.scratch.buffer, repack: null };
    }
    const words = new Words(this.fields.length);
    this.fill(entry, words, values);
    const repack = mayChange(values) ? () => this.fill(entry, words, values) : null;
    return { words: words.buffer, repack };
  }

  private fill(entry: string, words: Words, given: ParamValues): void {
    const { fields } = this;
    const values = typeof given === "function" ? given() : given;
    for (let i = 0; i < fields.length; i++) {
      const { name, type } = fields[i]!;
      const scalar = values[name];
      if (scalar === undefined) throw this.wrong(entry, `no ${name}`);
      const value = currentValue(scalar);
      if (type === "f32") words.f32[i] = value;
      else words.u32[i] = value;
    }
    let count = 0;
    for (const _ in values) count += 1;
    if (count > fields.length) throw this.wrong(entry, Object.keys(values).join(", "));
  }

  private wrong(entry: string, got: string): ValueError {
    const expected = `exactly ${this.fields.map((f) => f.name).join(", ") || "none"}`;
    return new ValueError({ op: entry, arg: "params", expected, got });
  }
}

function mayChange(values: ParamValues): boolean {
  if (typeof values === "function") return true;
  return Object.values(values).some((value) => typeof value === "function");
}

/** The same bytes as integers and as floats. */
class Words {
  readonly buffer: ArrayBuffer;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly f32: Float32Array<ArrayBuffer>;

  constructor(length: number) {
    this.buffer = new ArrayBuffer(4 * length);
    this.u32 = new Uint32Array(this.buffer);
    this.f32 = new Float32Array(this.buffer);
  }
}
