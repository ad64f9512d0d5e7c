// ExampleSet: the examples of a data set, 8 bytes per token, and a fingerprint of them all.
import { ValueError } from "../../gpu/errors.ts";
import { ContentHash } from "../content_hash.ts";
import type { Example } from "./encode.ts";

export class ExampleSet {
  #ids = new Int32Array(1 << 12);
  #labels = new Int32Array(1 << 12);
  readonly #ends: number[] = [];
  readonly #hash = new ContentHash();

  /** @param examples  the first ones */
  constructor(examples: Iterable<Example> = []) {
    for (const example of examples) this.add(example);
  }

  /** How many examples there are. */
  get count(): number {
    return this.#ends.length;
  }

  /** Tokens of all examples together. */
  get tokens(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** 16 digits that differ where a token, a label or the order of examples differs. */
  get fingerprint(): string {
    return this.#hash.hex();
  }

  add({ ids, labels }: Example): void {
    const { tokens } = this;
    const needed = tokens + ids.length;
    if (needed > this.#ids.length) {
      this.#ids = grown(this.#ids, needed);
      this.#labels = grown(this.#labels, needed);
    }
    this.#ids.set(ids, tokens);
    this.#labels.set(labels, tokens);
    this.#ends.push(needed);
    for (let i = 0; i < ids.length; i++) this.#hash.add(ids[i]!).add(labels[i]!);
    this.#hash.add(-1 - ids.length);
  }

  /** Tokens of an example. */
  sizeOf(i: number): number {
    return this.#ends[i]! - (this.#ends[i - 1] ?? 0);
  }

  /** @throws ValueError where there is no such example */
  at(i: number): Example {
    const end = this.#ends[i];
    if (end === undefined) {
      const expected = `an integer in [0, ${this.count - 1}]`;
      throw new ValueError({ op: "ExampleSet", arg: "i", expected, got: `${i}` });
    }
    const from = end - this.sizeOf(i);
    return { ids: this.#ids.subarray(from, end), labels: this.#labels.subarray(from, end) };
  }
}

function grown(old: Int32Array<ArrayBuffer>, needed: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.max(needed, 2 * old.length));
  larger.set(old);
  return larger;
}
