// ExampleSet: the examples of a data set, in memory or in a file, and a fingerprint of them all.
import { ValueError } from "../../gpu/errors.ts";
import { ContentHash } from "../content_hash.ts";
import { IGNORED, type TokenText } from "../rows.ts";
import type { Example } from "./encode.ts";
import { MemoryTokens, type TokenStore } from "./token_store.ts";

export class ExampleSet implements Disposable {
  #ends = new Float64Array(1 << 10);
  #count = 0;
  readonly #hash = new ContentHash();
  readonly #store: TokenStore;

  /**
   * @param examples  the first ones
   * @param store  keeps the tokens. Default: memory
   */
  constructor(examples: Iterable<Example> = [], store: TokenStore = new MemoryTokens()) {
    this.#store = store;
    for (const example of examples) this.add(example);
  }

  /** How many examples there are. */
  get count(): number {
    return this.#count;
  }

  /** Tokens of all examples together. */
  get tokens(): number {
    return this.#store.length;
  }

  /** 16 digits that differ where a token, a label or the order of examples differs. */
  get fingerprint(): string {
    return this.#hash.hex();
  }

  /** The ids of all examples behind one another: what `Windows` cuts. */
  get text(): TokenText {
    const store = this.#store;
    return {
      get length() {
        return store.length;
      },
      slice: (from, to) => Int32Array.from(store.read(from, to), (word) => word >>> 1),
    };
  }

  /** @throws LowrankError where the tokens are kept in a file and the disk is full */
  add({ ids, labels }: Example): void {
    const words = Uint32Array.from(ids, (id, i) => 2 * id + (labels[i] === IGNORED ? 0 : 1));
    this.#store.push(words);
    if (this.#count === this.#ends.length) {
      const larger = new Float64Array(2 * this.#count);
      larger.set(this.#ends);
      this.#ends = larger;
    }
    this.#ends[this.#count++] = this.#store.length;
    for (const word of words) this.#hash.add(word);
    this.#hash.add(-1 - ids.length);
  }

  /** Tokens of an example. */
  sizeOf(i: number): number {
    return this.#ends[i]! - (i > 0 ? this.#ends[i - 1]! : 0);
  }

  /** @throws ValueError where there is no such example */
  at(i: number): Example {
    if (!(Number.isInteger(i) && i >= 0 && i < this.#count)) {
      const expected = `an integer in [0, ${this.count - 1}]`;
      throw new ValueError({ op: "ExampleSet", arg: "i", expected, got: `${i}` });
    }
    const end = this.#ends[i]!;
    const words = this.#store.read(end - this.sizeOf(i), end);
    const ids = Int32Array.from(words, (word) => word >>> 1);
    return { ids, labels: ids.map((id, k) => (words[k]! % 2 === 1 ? id : IGNORED)) };
  }

  /** Gives the tokens' memory or file back. */
  dispose(): void {
    this.#store.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
