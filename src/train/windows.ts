// Windows: a text as batches of overlapping windows, each with the tokens that follow.
import { ValueError } from "../gpu/errors.ts";
import { tensor } from "../tensor/create.ts";
import { philox4x32 } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ContentHash } from "./content_hash.ts";
import {
  checkCount,
  type Row,
  type RowSet,
  type Rows,
  type TokenText,
  type TrainingRows,
} from "./rows.ts";

/** Input tokens and the token that follows each: both [B, T] of i32. */
export interface Batch {
  ids: Tensor;
  targets: Tensor;
  /** Of rows that hold several texts: where in its row the text of each token begins, [B, T] of i32. */
  starts?: Tensor;
}

/** Tokens of a text that are read at once. */
const PIECE = 1 << 16;

/**
 * The windows of a text. To train on, they begin anywhere, at random; as rows that are counted, they stand behind
 * one another without overlap.
 */
export class Windows implements TrainingRows, RowSet {
  readonly isPacked = false;
  #fingerprint: string | null = null;

  /**
   * @param tokens  the text
   * @param length  T, tokens per window
   */
  constructor(
    readonly tokens: TokenText,
    readonly length: number,
  ) {
    checkCount("Windows", "length", length);
    if (tokens.length > length) return;
    throw new ValueError({
      op: "Windows",
      arg: "tokens",
      expected: `more than one window of ${length}`,
      got: `${tokens.length}`,
    });
  }

  /** Random windows: a pure function of seed and step, so that two runs see the same batches. */
  random(batch: number, seed: number, step: number): Batch {
    return this.at(this.draw(batch, seed, step));
  }

  /** The starts of the windows that `random` gives. */
  draw(batch: number, seed: number, step: number): number[] {
    return Array.from({ length: batch }, (_, i) => {
      const [word] = philox4x32([step >>> 0, i, 0, 0], [seed >>> 0, 0x77696e]);
      return Math.floor((word / 2 ** 32) * (this.tokens.length - this.length));
    });
  }

  /** Windows without overlap. */
  get count(): number {
    return Math.floor((this.tokens.length - 1) / this.length);
  }

  /** The i-th of the windows without overlap. */
  row(i: number): Row {
    const start = [i * this.length];
    return { ids: this.flat(start, 0), targets: this.flat(start, 1), starts: null };
  }

  /** The windows that begin at these tokens. */
  at(starts: readonly number[]): Batch {
    const shape = [starts.length, this.length];
    return {
      ids: tensor(this.flat(starts, 0), shape),
      targets: tensor(this.flat(starts, 1), shape),
    };
  }

  /** The windows that `random` gives, on the host. */
  rows(count: number, seed: number, step: number): Rows {
    const starts = this.draw(count, seed, step);
    return { ids: this.flat(starts, 0), targets: this.flat(starts, 1) };
  }

  /** Tells other texts and lengths apart. */
  get fingerprint(): string {
    if (this.#fingerprint !== null) return this.#fingerprint;
    const hash = new ContentHash();
    for (let from = 0; from < this.tokens.length; from += PIECE) {
      const piece = this.tokens.slice(from, Math.min(from + PIECE, this.tokens.length));
      for (let i = 0; i < piece.length; i++) hash.add(piece[i]!);
    }
    this.#fingerprint = `windows ${this.length} ${hash.hex()}`;
    return this.#fingerprint;
  }

  /** The windows' tokens, each moved on by `shift`. */
  private flat(starts: readonly number[], shift: number): Int32Array {
    const T = this.length;
    const flat = new Int32Array(starts.length * T);
    starts.forEach((start, row) => {
      flat.set(this.tokens.slice(start + shift, start + shift + T), row * T);
    });
    return flat;
  }
}

/** The first `1 − share` of a text to train on, the rest, never trained on, to validate. */
export function splitTail<T extends Uint8Array>(text: T, share: number): [train: T, valid: T] {
  const at = Math.floor(text.length * (1 - share));
  return [text.subarray(0, at) as T, text.subarray(at) as T];
}
