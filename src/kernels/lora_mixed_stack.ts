// What calls of lora_mixed on one layer have in common, made anew only where it has changed.
import { activeRecording } from "../gpu/recording.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A tensor and what it was made of. */
interface Made {
  from: readonly unknown[];
  tensor: Tensor;
}

/** Keeps the packed factors of a layer's adapters, and the tables of its last batch. */
export class MixedStack {
  private readonly kept = new Map<string, Made>();

  /**
   * What `make` gives, or what it gave the last time if that was from the same values. In a captured function
   * it is made in each replay.
   */
  of(name: string, from: readonly unknown[], make: () => Tensor): Tensor {
    if (activeRecording()) return make();
    const last = this.kept.get(name);
    if (last?.from.length === from.length && from.every((v, i) => v === last.from[i])) {
      return last.tensor;
    }
    last?.tensor.dispose();
    const tensor = make().persist();
    tensor.storage.category = "adapters";
    this.kept.set(name, { from, tensor });
    return tensor;
  }

  /** Frees what is kept. */
  dispose(): void {
    for (const { tensor } of this.kept.values()) tensor.dispose();
    this.kept.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What the values of some tensors can be told by: where they lie, and how often that was written. */
export function stateOf(tensors: readonly Tensor[]): unknown[] {
  return tensors.flatMap(({ storage }) => [storage, storage.version]);
}
