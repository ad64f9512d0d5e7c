// LoraLayer: a frozen linear layer with a low-rank update (Hu et al. 2021, arXiv 2106.09685).
//   y = base(x) + s·(D(x)·Aᵀ)·Bᵀ      A: [r, in], B: [out, r], D: dropout
import { loraLinear } from "../autograd/ops/index.ts";
import { GradError } from "../gpu/errors.ts";
import { loraMergeInto } from "../kernels/lora_merge.ts";
import { constantInit, kaimingUniformInit } from "../nn/init.ts";
import { Conv1D, type Linear } from "../nn/layers.ts";
import { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type CompleteLoraConfig, scaleOf } from "./config.ts";

export class LoraLayer extends Module {
  base_layer: Linear | Conv1D;
  lora_A: Tensor;
  lora_B: Tensor;
  /** Off: the layer computes what its base computes. */
  enabled = true;
  readonly scale: number;
  readonly dropout: number;
  /** The base's weights from before the merge, so that unmerge restores every bit. */
  #original: Tensor | null = null;

  /** B starts at 0, so that the first step computes what the base computes. */
  constructor(base: Linear | Conv1D, config: CompleteLoraConfig) {
    super();
    this.base_layer = base;
    this.scale = scaleOf(config);
    this.dropout = config.lora_dropout;
    this.lora_A = kaimingUniformInit([config.r, base.inFeatures]);
    this.lora_B = constantInit([base.outFeatures, config.r], 0);
  }

  get merged(): boolean {
    return this.#original !== null;
  }

  private get transposed(): boolean {
    return this.base_layer instanceof Conv1D;
  }

  forward(x: Tensor): Tensor {
    if (this.merged || !this.enabled) return this.base_layer.forward(x);
    const { weight, bias } = this.base_layer;
    return loraLinear(x, weight, bias, this.lora_A, this.lora_B, {
      scale: this.scale,
      dropout: this.dropout,
      training: this.training,
      transposed: this.transposed,
    });
  }

  /** Adds s·B·A to the base's weights. Nothing happens if that was done. */
  merge(): void {
    if (this.merged) return;
    const { weight } = this.base_layer;
    if (weight.requiresGrad) {
      throw new GradError({
        op: "merge",
        arg: "the base weight",
        expected: "frozen",
        got: "one that wants a gradient",
      });
    }
    this.#original = weight.clone().persist();
    loraMergeInto(weight, this.lora_A, this.lora_B, this.scale, { transposed: this.transposed });
  }

  /** Restores the base's weights bit for bit. */
  unmerge(): void {
    if (!this.#original) return;
    const { weight } = this.base_layer;
    this.base_layer.weight = this.#original;
    this.#original = null;
    weight.dispose();
  }

  /** Forgets the weights from before the merge: from now on the update is part of the base. */
  keepMerged(): void {
    this.merge();
    this.#original?.dispose();
    this.#original = null;
  }

  override dispose(): void {
    super.dispose();
    this.#original?.dispose();
    this.#original = null;
  }
}
