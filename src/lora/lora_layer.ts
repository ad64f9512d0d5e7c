// LoraLayer: a frozen layer and the low-rank updates of its adapters (Hu et al. 2021, arXiv 2106.09685).
//   y = base(x) + Σ update(x), over the active adapters

import { noGrad } from "../autograd/graph.ts";
import { add, concat, loraLinear, mul } from "../autograd/ops/index.ts";
import { GradError, ValueError } from "../gpu/errors.ts";
import { loraMergeInto } from "../kernels/lora_merge.ts";
import { Conv1D, Embedding, type Linear } from "../nn/layers.ts";
import { type AnyModule, Module } from "../nn/module.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { LayerSizes, LoraWeights } from "./lora_weights.ts";
import type { Switches } from "./switches.ts";

/** The base's values from before a merge. */
interface Original {
  weight: Tensor;
  bias: Tensor | null;
}

export class LoraLayer extends Module {
  base_layer: Linear | Conv1D | Embedding;
  /** By the names of the adapters. */
  readonly adapters = new Map<string, LoraWeights>();
  #original: Original | null = null;

  constructor(
    base: Linear | Conv1D | Embedding,
    private readonly switches: Switches,
  ) {
    super();
    this.base_layer = base;
    this.training = base.training;
  }

  override *children(): Generator<[string, AnyModule]> {
    yield ["base_layer", this.base_layer];
    yield* this.adapters;
  }

  get sizes(): LayerSizes {
    const base = this.base_layer;
    if (base instanceof Embedding) {
      return { in: base.numEmbeddings, out: base.embeddingDim, isEmbedding: true };
    }
    return { in: base.inFeatures, out: base.outFeatures, isEmbedding: false };
  }

  /** Whether the weight is stored [in, out]. */
  get transposed(): boolean {
    return this.base_layer instanceof Conv1D || this.base_layer instanceof Embedding;
  }

  get merged(): boolean {
    return this.#original !== null;
  }

  /** The base's own weight, merged or not: a tied output head reads it here. */
  get weight(): Tensor {
    return this.#original?.weight ?? this.base_layer.weight;
  }

  private get baseBias(): Tensor | null {
    return this.base_layer instanceof Embedding ? null : this.base_layer.bias;
  }

  /** The updates that count now. */
  get active(): LoraWeights[] {
    const { active, enabled } = this.switches;
    return enabled ? active.flatMap((name) => this.adapters.get(name) ?? []) : [];
  }

  forward(x: Tensor): Tensor {
    const updates = this.merged ? [] : this.active;
    if (updates.length === 0) return this.base_layer.forward(x);
    if (this.base_layer instanceof Embedding) {
      return updates.reduce((y, update) => add(y, update.forward(x)), this.base_layer.forward(x));
    }
    const [first, ...others] = updates as [LoraWeights, ...LoraWeights[]];
    return others.reduce((y, update) => add(y, update.forward(x)), this.fused(x, first));
  }

  /** The base and one update in one op. */
  private fused(x: Tensor, update: LoraWeights): Tensor {
    const { lora_A, lora_B, lora_bias, scaling: scale, dropout } = update;
    const { training, transposed } = this;
    const { weight } = this.base_layer;
    const options = { scale, dropout, training, transposed };
    const y = loraLinear(x, weight, this.baseBias, lora_A, lora_B, options);
    return lora_bias ? add(y, mul(lora_bias, scale)) : y;
  }

  /** Throws unless the active updates can become part of the base. */
  checkMergeable(path: string): void {
    const { weight } = this.base_layer;
    if (weight.requiresGrad) {
      const facts = { expected: "frozen", got: "one that wants a gradient" };
      throw new GradError({ op: "merge", arg: `the weight of ${path}`, ...facts });
    }
    if (this.baseBias || !this.active.some((update) => update.lora_bias)) return;
    const facts = {
      expected: "one with a bias, for the adapter has lora_bias",
      got: "one without",
    };
    throw new ValueError({ op: "merge", arg: path, ...facts });
  }

  /** Adds the active updates to the base in one pass. Nothing happens if that was done. */
  merge(): void {
    const updates = this.active;
    if (this.merged || updates.length === 0) return;
    const { weight } = this.base_layer;
    this.#original = { weight: weight.clone().persist(), bias: this.baseBias };
    noGrad(() => {
      using _ = scope();
      const [A, B, scale] = stacked(updates);
      loraMergeInto(weight, A, B, scale, { transposed: this.transposed });
      for (const { lora_bias: b, scaling } of updates) {
        if (b) this.setBias(add(this.baseBias!, mul(b, scaling)).persist());
      }
    });
  }

  private setBias(to: Tensor | null): void {
    const before = this.baseBias;
    if (before === to || this.base_layer instanceof Embedding) return;
    (this.base_layer as Linear).bias = to;
    if (before !== this.#original?.bias) before?.dispose();
  }

  /** Restores the base bit for bit. */
  unmerge(): void {
    if (!this.#original) return;
    const merged = this.base_layer.weight;
    this.base_layer.weight = this.#original.weight;
    merged.dispose();
    this.setBias(this.#original.bias);
    this.#original = null;
  }

  /** Forgets the values from before the merge: from now on the updates are part of the base. */
  keepMerged(): void {
    this.merge();
    if (!this.#original) return;
    const { weight, bias } = this.#original;
    weight.dispose();
    if (bias !== this.baseBias) bias?.dispose();
    this.#original = null;
  }

  override dispose(): void {
    super.dispose();
    this.#original?.weight.dispose();
    if (this.#original?.bias !== this.baseBias) this.#original?.bias?.dispose();
    this.#original = null;
  }
}

/** Updates as one of the sum of their ranks: A's above each other, s·B's side by side, and its scale. */
function stacked(updates: readonly LoraWeights[]): [A: Tensor, B: Tensor, scale: number] {
  const [first] = updates as [LoraWeights];
  if (updates.length === 1) return [first.lora_A, first.lora_B, first.scaling];
  const A = concat(
    updates.map((u) => u.lora_A),
    0,
  );
  const B = concat(
    updates.map((u) => mul(u.lora_B, u.scaling)),
    1,
  );
  return [A, B, 1];
}
