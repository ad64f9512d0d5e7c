// LoraLayer: a frozen layer and the low-rank updates of its adapters (Hu et al. 2021, arXiv 2106.09685).
//   y = base(x) + Σ update(x), over the active adapters; DoRA's turn what is there before
import { noGrad } from "../autograd/graph.ts";
import {
  add,
  dropout,
  type LoraLinearLayer,
  linear,
  loraLinear,
  loraLinearEach,
  mul,
  sub,
} from "../autograd/ops/index.ts";
import { DTypeError, GradError, ValueError } from "../gpu/errors.ts";
import { loraMergeInto } from "../kernels/lora_merge.ts";
import { MixedStack } from "../kernels/lora_mixed_stack.ts";
import { SharingModule } from "../nn/beside.ts";
import type { HeadModule, PlainHead } from "../nn/causal_lm.ts";
import { Conv1D, Embedding, type Linear } from "../nn/layers.ts";
import type { AnyModule, Module } from "../nn/module.ts";
import { isQuantized } from "../tensor/quantized.ts";
import { scope, scoped } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { adaptedHead } from "./adapted_head.ts";
import type { CompleteLoraConfig } from "./config.ts";
import { addMagnitude, gainOf } from "./dora.ts";
import { type LayerSizes, LoraWeights } from "./lora_weights.ts";
import { mixedForward } from "./mixed.ts";
import { stacked } from "./stacked.ts";
import type { Switches } from "./switches.ts";

/** The base's values from before a merge. */
interface Original {
  weight: Tensor;
  bias: Tensor | null;
}

export class LoraLayer extends SharingModule implements HeadModule {
  base_layer: Linear | Conv1D | Embedding;
  /** By the names of the adapters. */
  readonly adapters = new Map<string, LoraWeights>();
  /** What batches of rows with different adapters keep from call to call. */
  readonly mixedStack = new MixedStack();
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

  /** Gives an adapter its update, frozen. */
  addUpdate(name: string, r: number, scaling: number, config: CompleteLoraConfig): void {
    const update = new LoraWeights(this.sizes, r, scaling, config);
    if (config.use_dora) addMagnitude(update, this.weight, this.transposed);
    update.training = this.training;
    this.adapters.set(name, update.requiresGrad(false));
  }

  /** Frees an adapter's update. What it took out of the base goes back, to a rounding. */
  deleteUpdate(name: string): void {
    const update = this.adapters.get(name);
    if (update?.start) {
      const { A, B } = update.start;
      loraMergeInto(this.weight, A, B, update.scaling, { transposed: this.transposed });
    }
    update?.dispose();
    this.adapters.delete(name);
    this.mixedStack.dispose();
  }

  forward(x: Tensor): Tensor {
    if (this.switches.rows && this.switches.enabled) return mixedForward(this, x, this.switches);
    const [first, ...others] = this.merged ? [] : this.active;
    if (!first) return this.base(x);
    return others.reduce((y, update) => this.withUpdate(y, x, update), this.withFirst(x, first));
  }

  /** Layers that are one product each share the pass over x; the others compute on their own. */
  callBeside(x: Tensor, modules: readonly Module[]): readonly Tensor[] {
    const products = modules.map((m) => (m instanceof LoraLayer ? m.product : null));
    const own = products.filter((p) => p !== null);
    const shared = scoped(() => loraLinearEach(x, own));
    let next = 0;
    return modules.map((m, i) => (products[i] ? shared[next++]! : m.call(x)));
  }

  /** The layer as one product with its update; null where it is more, or less. */
  private get product(): LoraLinearLayer | null {
    const { rows, enabled } = this.switches;
    const [update, ...others] = this.merged || (rows && enabled) ? [] : this.active;
    if (!update || others.length > 0 || this.base_layer instanceof Embedding) return null;
    if (update.lora_magnitude_vector || update.lora_bias) return null;
    return this.productWith(update, this.baseBias, update.dropout);
  }

  asHead(): PlainHead | null {
    return adaptedHead(this, this.switches);
  }

  private productWith(update: LoraWeights, bias: Tensor | null, p: number): LoraLinearLayer {
    const { lora_A: a, lora_B: b, scaling: scale } = update;
    const { training, transposed } = this;
    const { weight } = this.base_layer;
    return { weight, bias, a, b, scale, dropout: p, training, transposed };
  }

  /** The layer without updates. What adapters took out of it (PiSSA, OLoRA) is added again. */
  private base(x: Tensor): Tensor {
    const taken = this.merged ? [] : [...this.adapters.values()].filter((u) => u.start);
    const [update] = taken;
    if (!update) return this.base_layer.forward(x);
    const { A, B } = update.start!;
    const { transposed } = this;
    const options = { scale: update.scaling, transposed };
    return loraLinear(x, this.base_layer.weight, this.baseBias, A, B, options);
  }

  private withFirst(x: Tensor, update: LoraWeights): Tensor {
    if (this.base_layer instanceof Embedding) {
      return this.withUpdate(this.base_layer.forward(x), x, update);
    }
    const { baseBias: bias, transposed } = this;
    if (update.lora_magnitude_vector) {
      const gain = gainOf(update, this.base_layer.weight, transposed);
      if (!update.drops) return plus(mul(this.fused(x, update, null), gain), bias);
      const kept = dropout(x, update.dropout);
      const rest = linear(sub(x, kept), this.base_layer.weight, bias, { transposed });
      return add(rest, mul(this.fused(kept, update, null, 0), gain));
    }
    const { lora_bias, scaling } = update;
    const y = this.fused(x, update, bias);
    return lora_bias ? add(y, mul(lora_bias, scaling)) : y;
  }

  /** x·Wᵀ + bias + s·(D(x)·Aᵀ)·Bᵀ in one op. */
  private fused(x: Tensor, update: LoraWeights, bias: Tensor | null, p = update.dropout): Tensor {
    return loraLinearEach(x, [this.productWith(update, bias, p)])[0]!;
  }

  /** One more update on top of the result so far. */
  private withUpdate(y: Tensor, x: Tensor, update: LoraWeights): Tensor {
    if (!update.lora_magnitude_vector) return add(y, update.forward(x));
    const { baseBias: bias, transposed } = this;
    const gain = gainOf(update, this.base_layer.weight, transposed);
    if (update.drops) {
      const kept = dropout(x, update.dropout);
      const before = linear(kept, this.base_layer.weight, null, { transposed });
      return add(y, sub(mul(this.fused(kept, update, null, 0), gain), before));
    }
    const turned = bias ? sub(y, bias) : y;
    return plus(mul(add(turned, update.forward(x)), gain), bias);
  }

  /** Throws unless the active updates can become part of the base. */
  checkMergeable(path: string): void {
    const { weight } = this.base_layer;
    if (weight.requiresGrad) {
      const facts = { expected: "frozen", got: "one that wants a gradient" };
      throw new GradError({ op: "merge", arg: `the weight of ${path}`, ...facts });
    }
    if (isQuantized(weight.dtype) && this.active.length > 0) {
      const facts = {
        expected: "f32, f16 or bf16",
        got: `${weight.dtype}, to which it would be rounded`,
      };
      const hint =
        "Save the adapter, and merge it into a base that was loaded without `quantize`, or with `dtype` from a quantised folder.";
      throw new DTypeError({ op: "merge", arg: `the weight of ${path}`, ...facts, hint });
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
    this.#original.weight.storage.category = "base";
    noGrad(() => {
      using _ = scope();
      const { A, B, scale, gain } = stacked(updates, this);
      const { transposed } = this;
      loraMergeInto(weight, A, B, scale, { transposed, ...(gain ? { gain } : {}) });
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
    for (const update of this.active) update.start = null;
    const { weight, bias } = this.#original;
    weight.dispose();
    if (bias !== this.baseBias) bias?.dispose();
    this.#original = null;
  }

  override dispose(): void {
    super.dispose();
    this.mixedStack.dispose();
    for (const update of this.adapters.values()) update.start = null;
    this.#original?.weight.dispose();
    if (this.#original?.bias !== this.baseBias) this.#original?.bias?.dispose();
    this.#original = null;
  }
}

function plus(y: Tensor, bias: Tensor | null): Tensor {
  return bias ? add(y, bias) : y;
}
