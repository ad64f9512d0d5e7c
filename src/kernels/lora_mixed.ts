// Low-rank updates that differ from sequence to sequence: tables, packing, dispatches.
// x: [B, T, K], y: [B, T, N], A of an adapter: [r, K], B: [N, r]

import { gpu } from "../gpu/device.ts";
import { LimitError, ShapeError, ValueError } from "../gpu/errors.ts";
import { currentValue } from "../gpu/recording.ts";
import { fromBytes } from "../tensor/create.ts";
import { dropThreshold, type Key } from "../tensor/philox.ts";
import { format } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { type MixedStack, stateOf } from "./lora_mixed_stack.ts";

const op = "lora_mixed";
const kernel = ownKernel("lora_mixed");
const ALIGNMENT = 64; // floats: where WebGPU lets a binding, and so a view, begin
const MOST_ROUNDS = 60_000; // of loops in one invocation on lavapipe
const ROUNDS_OF_DROPPING = 11; // of the generator, for each quad

/** How one adapter takes part. */
interface MixedTerm {
  /** s. */
  scale: number;
  /** Probability of dropping. */
  p: number;
  key: Key;
}

export interface MixedPlan {
  /** The base's weight is stored [in, out]. */
  transposed: boolean;
  terms: readonly MixedTerm[];
  /** For each sequence the indices of the adapters whose updates are added. */
  rows: readonly (readonly number[])[];
  /** Keeps packed factors and tables from call to call of one layer. */
  stack?: MixedStack;
}

/** Sizes and tables of a call, kept for backward. */
export interface Mixed {
  params: Record<"sequences" | "T" | "K4" | "N4" | "fours" | "groups", number>;
  a: Tensor;
  b: Tensor;
  fours: Tensor;
  uses: Tensor;
}

/** Throws unless shapes, types and the plan fit. */
export function checkMixed(
  x: Tensor,
  N: number,
  As: readonly Tensor[],
  Bs: readonly Tensor[],
  plan: MixedPlan,
): void {
  checkDType(op, "x", x, "f32");
  checkRank(op, "x", x, 3, "[sequences, tokens, in]");
  const [sequences, T, K] = x.shape as [number, number, number];
  if (K % 4 !== 0 || N % 4 !== 0) {
    throw new ShapeError({
      op,
      arg: "in and out",
      expected: "multiples of 4",
      got: format([K, N]),
    });
  }
  if (plan.rows.length !== sequences) {
    const facts = { arg: "adapterNames", expected: `${sequences} names, one for each sequence` };
    throw new ShapeError({ op, ...facts, got: `${plan.rows.length}` });
  }
  for (const [i, A] of As.entries()) {
    checkDType(op, `a[${i}]`, A, "f32");
    checkShapeIs(op, `a[${i}]`, A, [A.shape[0]!, K], "[r, in]");
    checkShapeIs(op, `b[${i}]`, Bs[i]!, [N, A.shape[0]!], "[out, r]");
  }
  const known = plan.rows.flat().every((i) => i in As && i in plan.terms);
  if (!known)
    throw new ValueError({ op, arg: "rows", expected: "indices of adapters", got: "others" });
  if (gpu(op).adapterClass === "gpu") return;
  const each = plan.terms.some(({ p }) => p > 0) ? ROUNDS_OF_DROPPING : 1;
  const rounds = Math.max((K / 4) * 4 * each, (N / 4) * 4, sequences * T * each);
  if (rounds <= MOST_ROUNDS) return;
  const facts = {
    expected: `at most ${MOST_ROUNDS} rounds of a loop on this device`,
    got: `${rounds}`,
  };
  throw new LimitError({ op, arg: "the batch", ...facts, hint: "Use shorter or fewer sequences." });
}

const padded = (n: number) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

/** Where each of some tensors begins in a flat one, in floats, and the length of that. */
function layout(tensors: readonly Tensor[]): { offsets: number[]; size: number } {
  const offsets: number[] = [];
  let size = 0;
  for (const t of tensors) {
    offsets.push(size);
    size += padded(t.size);
  }
  return { offsets, size };
}

/** The tensors side by side in one, by one copy each. */
function packed(tensors: readonly Tensor[]): Tensor {
  const { offsets, size } = layout(tensors);
  const flat = Tensor.empty(op, [size], "f32");
  const { stream } = flat.storage.gpu;
  for (const [i, { storage, bytes }] of tensors.entries()) {
    const at = flat.storage.byteOffset + 4 * offsets[i]!;
    stream.copy(storage.block, storage.byteOffset, flat.storage.block, at, bytes);
  }
  return flat;
}

/** Views of a flat tensor in the shapes of others, for gradients. */
function unpacked(flat: Tensor, like: readonly Tensor[]): Tensor[] {
  const { offsets } = layout(like);
  return like.map(
    (t, i) => new Tensor(flat.storage.slice(4 * offsets[i]!, t.bytes), t.shape, "f32"),
  );
}

/** Packs the adapters of a call and builds its tables, or takes what the layer has kept of them. */
export function prepareMixed(
  x: Tensor,
  N: number,
  As: readonly Tensor[],
  Bs: readonly Tensor[],
  plan: MixedPlan,
): Mixed {
  const [sequences, T, K] = x.shape as [number, number, number];
  const counts = As.map((A) => Math.ceil(A.shape[0]! / 4));
  const fours = Math.max(1, ...plan.rows.map((row) => row.reduce((sum, i) => sum + counts[i]!, 0)));
  const groups = counts.reduce((a, b) => a + b, 0);
  const params = { sequences, T, K4: K / 4, N4: N / 4, fours, groups };
  const { stack, terms, rows } = plan;
  if (!stack) {
    const tables = tablesOf(params, As, Bs, plan);
    return { params, a: packed(As), b: packed(Bs), fours: tables.fours(), uses: tables.uses() };
  }
  const a = stack.of("a", stateOf(As), () => packed(As));
  const b = stack.of("b", stateOf(Bs), () => packed(Bs));
  // Keys of dropping are new in each call, and so are its tables.
  const isSame = terms.every(({ p }) => p === 0);
  const ranks = As.map((A) => A.shape[0]!);
  const from = [...Object.values(params), ...ranks, ...terms.map(({ scale }) => scale), `${rows.join("|")}`]; // biome-ignore format: one line
  const key = isSame ? from : [{}];
  let made: ReturnType<typeof tablesOf> | null = null;
  const tables = () => {
    made ??= tablesOf(params, As, Bs, plan);
    return made;
  };
  const [first, second] = [
    stack.of("fours", key, () => tables().fours()),
    stack.of("uses", key, () => tables().uses()),
  ];
  return { params, a, b, fours: first, uses: second };
}

/** What makes the tables: which four rows of which A each sequence uses, and who uses each four. */
function tablesOf(
  { sequences, T, K4, fours }: Mixed["params"],
  As: readonly Tensor[],
  Bs: readonly Tensor[],
  plan: MixedPlan,
): { fours: () => Tensor; uses: () => Tensor } {
  const counts = As.map((A) => Math.ceil(A.shape[0]! / 4));
  const [aAt, bAt] = [layout(As).offsets, layout(Bs).offsets];
  const words = new Uint32Array(sequences * fours * 12);
  const floats = new Float32Array(words.buffer);
  const groups = As.flatMap((_, i) => Array.from({ length: counts[i]! }, (_, j) => `${i} ${j}`));
  const uses = new Map(groups.map((group) => [group, [] as number[]]));
  const seen = As.map(() => 0);
  for (const [sequence, row] of plan.rows.entries()) {
    let q = 0;
    for (const i of row) {
      const { scale, p, key } = plan.terms[i]!;
      const r = As[i]!.shape[0]!;
      for (let j = 0; j < counts[i]!; j++, q++) {
        const at = (sequence * fours + q) * 12;
        words.set([aAt[i]! / 4 + j * 4 * K4, bAt[i]! + 4 * j, r, Math.min(4, r - 4 * j)], at);
        floats[at + 4] = scale / (1 - p);
        const [key0, key1] = [currentValue(key[0]), currentValue(key[1])];
        words.set([p > 0 ? dropThreshold(p) : 0, key0, key1, seen[i]!], at + 5);
        uses.get(`${i} ${j}`)!.push(sequence, q);
      }
      seen[i]! += T;
    }
  }
  return { fours: () => table(words), uses: () => table(usesTable([...uses.values()])) };
}

/** Where each group's list of pairs begins, where the last ends, then the pairs. */
function usesTable(lists: readonly number[][]): Uint32Array {
  const begins = [0];
  for (const list of lists) begins.push(begins.at(-1)! + list.length / 2);
  return Uint32Array.from([...begins, ...lists.flat()]);
}

function table(words: Uint32Array): Tensor {
  return fromBytes(new Uint8Array(words.buffer), [words.length], "u32", op);
}

/** Threads of four rows each, times the items of a row. */
function blocks({ sequences, T }: Mixed["params"], items: number): [number, number] {
  return grid(Math.ceil((sequences * Math.ceil(T / 4) * items) / 64));
}

/** For every token a product with 4·fours rows of A, or columns of B, at the most: short ranks are padded. */
function flopsOf({ sequences, T, fours }: Mixed["params"], items: number): number {
  return 2 * sequences * T * 4 * fours * 4 * items;
}

/** Adds every sequence's updates to y, and returns S, which backward needs. */
export function mixedForward(x: Tensor, y: Tensor, { params, a, b, fours }: Mixed): Tensor {
  const S = Tensor.empty("lora_mixed_forward_s", [x.size / params.K4 / 4, params.fours * 4], "f32");
  kernel.run("lora_mixed_forward_s", {
    tensors: { x, a, fours, S },
    params,
    groups: blocks(params, params.fours),
    flops: flopsOf(params, params.K4),
  });
  kernel.run("lora_mixed_forward", {
    tensors: { b, fours, S_in: S, y },
    params,
    groups: blocks(params, params.N4),
    flops: flopsOf(params, params.N4),
  });
  return S;
}

/** dS = s·dy·B, which dx and dA share. */
export function mixedBackwardS(dy: Tensor, S: Tensor, { params, b, fours }: Mixed): Tensor {
  const dS = Tensor.empty("lora_mixed_backward_s", S.shape, "f32");
  kernel.run("lora_mixed_backward_s", {
    tensors: { dy, b, fours, S: dS },
    params,
    groups: blocks(params, params.fours),
    flops: flopsOf(params, params.N4),
  });
  return dS;
}

/** Adds D'(dS·A) to dx, which holds the base's part. */
export function mixedBackwardX(dS: Tensor, dx: Tensor, { params, a, fours }: Mixed): void {
  kernel.run("lora_mixed_backward_x", {
    tensors: { a, fours, S_in: dS, y: dx },
    params,
    groups: blocks(params, params.K4),
    flops: flopsOf(params, params.K4),
  });
}

/** dA of every adapter. */
export function mixedBackwardA(
  dS: Tensor,
  x: Tensor,
  As: readonly Tensor[],
  { params, fours, uses }: Mixed,
): Tensor[] {
  const da = Tensor.empty("lora_mixed_backward_a", [layout(As).size], "f32");
  kernel.run("lora_mixed_backward_a", {
    tensors: { x, fours, S_in: dS, uses, da },
    params,
    groups: grid(Math.ceil((params.groups * params.K4) / 64)),
    flops: flopsOf(params, params.K4),
  });
  return unpacked(da, As);
}

/** dB of every adapter. */
export function mixedBackwardB(
  dy: Tensor,
  S: Tensor,
  Bs: readonly Tensor[],
  { params, fours, uses }: Mixed,
): Tensor[] {
  const db = Tensor.empty("lora_mixed_backward_b", [layout(Bs).size], "f32");
  kernel.run("lora_mixed_backward_b", {
    tensors: { dy, fours, S_in: S, uses, db },
    params,
    groups: grid(Math.ceil((params.groups * params.N4) / 64)),
    flops: flopsOf(params, params.N4),
  });
  return unpacked(db, Bs);
}
