// Augmentation: rows changed on their way to the model, anew in every step and never by chance.
import { ValueError } from "../../gpu/errors.ts";
import { philox4x32 } from "../../tensor/philox.ts";
import { checkCount, IGNORED, type Rows, type TrainingRows } from "../rows.ts";
import { permuted } from "./order.ts";
import { checkShare } from "./split.ts";

/** A change of rows: one of those below, or one's own. */
export interface Augmentation {
  /** Tells this change and its settings from others: part of what a checkpoint is checked by. */
  readonly fingerprint: string;
  /**
   * The changed rows: a pure function of rows, seed and step, so that a run can go on where it ended.
   * @param length  T, tokens per row
   */
  apply(rows: Rows, seed: number, step: number, length: number): Rows;
}

/** Rows with augmentations, applied in order. */
export class AugmentedRows implements TrainingRows {
  readonly length: number;
  private readonly changes: readonly Augmentation[];

  constructor(
    readonly source: TrainingRows,
    ...changes: Augmentation[]
  ) {
    this.length = source.length;
    this.changes = changes;
  }

  /** Differs where rows or augmentations differ, or the order of these. */
  get fingerprint(): string {
    return [this.source, ...this.changes].map(({ fingerprint }) => fingerprint).join(", ");
  }

  rows(count: number, seed: number, step: number): Rows {
    const rows = this.source.rows(count, seed, step);
    return this.changes.reduce((now, change) => change.apply(now, seed, step, this.length), rows);
  }
}

/**
 * Token dropout: each input id is replaced with chance p. Targets stay, so that the model learns to go on from
 * what is not quite what it would have written.
 * @param p  chance, in (0, 1)
 * @param by  `{ token }`, such as a mask token; or `{ below }`: a random id in [0, below), the vocabulary's size
 * @throws ValueError for a chance or an id out of range
 * @see Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods"; Xie et al. 2017, arXiv 1703.02573
 */
export function tokenDropout(p: number, by: { token: number } | { below: number }): Augmentation {
  checkShare("tokenDropout", "p", p);
  if ("below" in by) checkCount("tokenDropout", "by.below", by.below);
  else checkToken(by.token);
  return {
    fingerprint: `tokens dropped ${p} ${JSON.stringify(by)}`,
    apply(rows, seed, step) {
      const ids = rows.ids.slice();
      for (let i = 0; i < ids.length; i++) {
        const [word, id] = drawn(i, seed, step, DROPPED);
        if (word >= p * WORDS) continue;
        ids[i] = "below" in by ? Math.floor((id / WORDS) * by.below) : by.token;
      }
      return { ...rows, ids };
    },
  };
}

/**
 * Example mixing, of packed rows: the texts of a row come in an order drawn for each step, and each with chance p
 * sees the texts before it, as if they were one. Every token is learnt as before, but from another past: a text is
 * no longer always the first thing that there is.
 * @param p  chance, in (0, 1]
 * @throws ValueError for a chance out of range; `apply` for rows of one text each, which have nothing to mix
 */
export function exampleMixing(p: number): Augmentation {
  if (p !== 1) checkShare("exampleMixing", "p", p);
  return {
    fingerprint: `examples mixed ${p}`,
    apply({ ids, targets, starts }, seed, step, length) {
      if (!starts) {
        const expected = "packed, several texts in a row";
        throw new ValueError({ op: "exampleMixing", arg: "rows", expected, got: "one text each" });
      }
      const mixed = { ids: ids.slice(), targets: targets.slice(), starts: starts.slice() };
      for (let row = 0; row * length < starts.length; row++) {
        mixRow({ ids, targets, starts }, mixed, row, { p, seed, step, length });
      }
      return mixed;
    },
  };
}

/** Rows of several texts. */
type Texts = Rows & Required<Pick<Rows, "starts">>;

interface Mixing {
  p: number;
  seed: number;
  step: number;
  length: number;
}

/** Writes a row's texts behind one another in their new order. */
function mixRow(from: Texts, to: Texts, row: number, { p, seed, step, length }: Mixing): void {
  const base = row * length;
  const texts = textsOf(from, base, length);
  const stream = MIXED + row;
  let [at, start] = [0, 0];
  for (let i = 0; i < texts.length; i++) {
    const [begin, end] = texts[permuted(i, texts.length, seed, step, stream)]!;
    const [word] = drawn(i, seed, step, stream);
    if (word >= p * WORDS) start = at;
    to.ids.set(from.ids.subarray(base + begin, base + end), base + at);
    to.targets.set(from.targets.subarray(base + begin, base + end), base + at);
    to.starts.fill(start, base + at, base + at + end - begin);
    at += end - begin;
  }
}

/** Where the texts of a row begin and end; what is learnt nowhere at its end is padding, and stays there. */
function textsOf({ targets, starts }: Texts, base: number, length: number) {
  const begins: number[] = [];
  for (let at = 0; at < length; at++) if (starts[base + at] === at) begins.push(at);
  const texts = begins.map((begin, i) => [begin, begins[i + 1] ?? length] as const);
  const [begin] = texts.at(-1)!;
  const isPadding = targets.subarray(base + begin, base + length).every((t) => t === IGNORED);
  return isPadding ? texts.slice(0, -1) : texts;
}

const WORDS = 2 ** 32;
const DROPPED = 0x64726f70;
const MIXED = 0x6d697800;

const drawn = (i: number, seed: number, step: number, stream: number) =>
  philox4x32([i, step >>> 0, 0, 0], [seed >>> 0, stream]);

function checkToken(token: number): void {
  if (Number.isSafeInteger(token) && token >= 0) return;
  const facts = { arg: "by.token", expected: "a non-negative integer", got: `${token}` };
  throw new ValueError({ op: "tokenDropout", ...facts });
}
