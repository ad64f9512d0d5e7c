// Hot-swapping: the values of one adapter take the place of another's, where they lie.

import { gpu } from "../gpu/device.ts";
import { ValueError } from "../gpu/errors.ts";
import { sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Lora } from "./lora.ts";
import { peftStateDict } from "./peft.ts";

/** Bytes that may lie between neighbours in a packed buffer and belong to nobody. */
const PADDING = 256;

interface Run {
  source: Tensor;
  target: Tensor;
  bytes: number;
}

/**
 * Copies the values and scales of one adapter over another's of the same shapes. What lies side by side
 * in both, as an optimiser packs it, moves by one copy. No tensor is replaced: a captured step goes on.
 * @returns the number of copies
 * @throws ValueError where the adapters differ in names or shapes; nothing is changed then
 */
export function swapAdapter(lora: Lora, target: string, source: string): number {
  const [to, from] = [peftStateDict(lora, target), peftStateDict(lora, source)];
  const odd = Object.keys({ ...to, ...from }).filter((name) => {
    const [a, b] = [to[name], from[name]];
    return !a || !b || !sameShape(a.shape, b.shape);
  });
  if (odd.length > 0) {
    const facts = {
      arg: source,
      expected: `of the names and shapes of ${target}`,
      got: odd.join(", "),
    };
    throw new ValueError({ op: "swapAdapter", ...facts });
  }
  const runs = joined(Object.keys(to).map((name) => ({ source: from[name]!, target: to[name]! })));
  const { stream } = gpu("swapAdapter");
  for (const { source: s, target: t, bytes } of runs) {
    const [a, b] = [s.storage, t.storage];
    stream.copy(a.block, a.byteOffset, b.block, b.byteOffset, bytes);
  }
  for (const t of Object.values(to)) t.storage.touch();
  for (const { adapters } of lora.layers.values()) {
    const [a, b] = [adapters.get(target), adapters.get(source)];
    if (a && b) a.scaling = b.scaling;
  }
  return runs.length;
}

/** Pairs that follow each other in both buffers with the same gap, as one. */
function joined(pairs: readonly { source: Tensor; target: Tensor }[]): Run[] {
  const sorted = [...pairs].sort(({ target: a }, { target: b }) => {
    return a.storage.block.id - b.storage.block.id || a.storage.byteOffset - b.storage.byteOffset;
  });
  const runs: Run[] = [];
  for (const { source, target } of sorted) {
    const last = runs.at(-1);
    const gap = last ? between(last.target, target) : null;
    const follows = last && gap !== null && gap === between(last.source, source);
    if (follows && gap - last.bytes >= 0 && gap - last.bytes < PADDING)
      last.bytes = gap + target.bytes;
    else runs.push({ source, target, bytes: target.bytes });
  }
  return runs;
}

/** Bytes from where one tensor begins to where another does, in one buffer. */
function between({ storage: a }: Tensor, { storage: b }: Tensor): number | null {
  return a.block === b.block ? b.byteOffset - a.byteOffset : null;
}
