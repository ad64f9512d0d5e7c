// A merge into quantised weights: they are widened, the update is added, and the sum is rounded again. How much of
// the update is left after that is measured, for it may be little: half a step of the levels hides a small update.
import { noGrad } from "../../autograd/graph.ts";
import { cast } from "../../autograd/ops/index.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { fromBytes } from "../../tensor/create.ts";
import {
  dequantizeValues,
  isQuantized,
  type QuantizedType,
  quantizeValues,
} from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** What is left of a layer's update Δ after W + Δ was rounded to Q. */
interface LayerSurvival {
  /** ⟨Q − W, Δ⟩/‖Δ‖²: the share of the update that is there. */
  kept: number;
  /** ‖Q − (W + Δ)‖/‖Δ‖: the rounding error beside the update; where it is above 1, there is more error than update. */
  error: number;
}

export interface Survival extends LayerSurvival {
  type: QuantizedType;
  /** By the layers that an adapter changed. `kept` and `error` above are over all of them together. */
  layers: Record<string, LayerSurvival>;
}

/** A model whose quantised weights were made f32, and what they were. */
export interface Widened {
  type: QuantizedType;
  /** By the names of the weights. */
  originals: Map<string, Tensor>;
}

/** Makes the quantised weights of a model f32; null where there are none. */
export function widen(model: CausalLM): Widened | null {
  const originals = new Map<string, Tensor>();
  let type: QuantizedType | null = null;
  for (const [name, p] of model.stateDict()) {
    if (!isQuantized(p.dtype)) continue;
    type = p.dtype;
    originals.set(name, p);
    model.setParameter(
      name,
      noGrad(() => cast(p, "f32")),
    );
  }
  return type && { type, originals };
}

/**
 * Rounds the widened weights to their type again, after adapters were merged into them. Those that no adapter changed
 * get their own bits back.
 */
export async function requantize(model: CausalLM, { type, originals }: Widened): Promise<Survival> {
  const layers: Record<string, LayerSurvival> = {};
  const all = new Sums();
  for (const [name, original] of originals) {
    const wide = model.stateDict().get(name)!;
    const [before, after] = [await original.data(), (await wide.data()) as Float32Array];
    if (after.every((v, i) => v === before[i])) model.setParameter(name, original);
    else {
      const bytes = quantizeValues(after, wide.shape, type, `merge ${name}`);
      const sums = new Sums();
      sums.add(before, after, dequantizeValues(bytes, wide.shape, type));
      all.join(sums);
      layers[name.replace(/\.weight$/, "")] = sums.survival();
      model.setParameter(name, fromBytes(bytes, wide.shape, type, "merge").persist());
      original.dispose();
    }
    wide.dispose();
  }
  return { type, ...all.survival(), layers };
}

class Sums {
  private update = 0;
  private along = 0;
  private error = 0;

  add(before: ArrayLike<number>, after: ArrayLike<number>, rounded: ArrayLike<number>): void {
    for (let i = 0; i < before.length; i++) {
      const change = after[i]! - before[i]!;
      this.update += change * change;
      this.along += (rounded[i]! - before[i]!) * change;
      this.error += (rounded[i]! - after[i]!) ** 2;
    }
  }

  join({ update, along, error }: Sums): void {
    this.update += update;
    this.along += along;
    this.error += error;
  }

  survival(): LayerSurvival {
    const { update, along, error } = this;
    if (update === 0) return { kept: 1, error: 0 };
    return { kept: along / update, error: Math.sqrt(error / update) };
  }
}
