// The layers that models are made of. Their parameters are named as PyTorch names them.
import {
  add,
  dropout,
  embedding,
  layerNorm,
  layerNormAdd,
  linear,
  rmsNorm,
  rmsNormAdd,
} from "../autograd/ops/index.ts";
import { ValueError } from "../gpu/errors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { constantInit, normalInit, uniformInit } from "./init.ts";
import { Module } from "./module.ts";

/** Throws ValueError unless every size is a positive integer. */
export function checkSizes(op: string, sizes: Record<string, number>): void {
  for (const [arg, n] of Object.entries(sizes)) {
    if (Number.isSafeInteger(n) && n > 0) continue;
    throw new ValueError({ op, arg, expected: "a positive integer", got: `${n}` });
  }
}

/** y = x·weightᵀ + bias. x: [..., in], weight: [out, in], bias: [out], y: [..., out]. */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | null;

  /** Weights start uniform in ±1/√in, as in PyTorch, or normal with `std`; biases likewise, or 0. */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: { bias?: boolean; std?: number } = {},
  ) {
    super();
    checkSizes("Linear", { inFeatures, outFeatures });
    const { bias = true, std } = options;
    const bound = 1 / Math.sqrt(inFeatures);
    const shape = [outFeatures, inFeatures];
    this.weight = std === undefined ? uniformInit(shape, bound) : normalInit(shape, std);
    this.bias = bias
      ? std === undefined
        ? uniformInit([outFeatures], bound)
        : constantInit([outFeatures], 0)
      : null;
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/** GPT-2's linear, whose weight is stored transposed: y = x·weight + bias, weight: [in, out]. */
export class Conv1D extends Module {
  weight: Tensor;
  bias: Tensor;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    std = 0.02,
  ) {
    super();
    checkSizes("Conv1D", { inFeatures, outFeatures });
    this.weight = normalInit([inFeatures, outFeatures], std);
    this.bias = constantInit([outFeatures], 0);
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias, { transposed: true });
  }
}

/** A Conv1D whose weight was turned to [out, in] when it was quantised, for scales belong to rows. */
export class TurnedConv1D extends Linear {}

/** Rows of `weight` [numEmbeddings, dim] by id. ids: [...] of i32 or u32, y: [..., dim]. */
export class Embedding extends Module {
  weight: Tensor;

  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    std = 1,
  ) {
    super();
    checkSizes("Embedding", { numEmbeddings, embeddingDim });
    this.weight = normalInit([numEmbeddings, embeddingDim], std);
  }

  forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids);
  }
}

/** Layer normalisation over the last axis (Ba, Kiros & Hinton 2016, arXiv 1607.06450). */
export class LayerNorm extends Module {
  weight: Tensor;
  bias: Tensor;

  constructor(
    dim: number,
    readonly eps = 1e-5,
  ) {
    super();
    checkSizes("LayerNorm", { dim });
    this.weight = constantInit([dim], 1);
    this.bias = constantInit([dim], 0);
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }

  /** x + residual, and its norm. */
  add(x: Tensor, residual: Tensor): readonly [h: Tensor, y: Tensor] {
    return layerNormAdd(x, residual, this.weight, this.bias, this.eps);
  }
}

/**
 * Root-mean-square normalisation over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467). The
 * factor is `weight + offset`; Gemma stores its weights around 0, with an offset of 1.
 */
export class RMSNorm extends Module {
  weight: Tensor;

  constructor(
    dim: number,
    readonly eps = 1e-6,
    readonly offset = 0,
  ) {
    super();
    checkSizes("RMSNorm", { dim });
    this.weight = constantInit([dim], 1 - offset);
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.factor, this.eps);
  }

  /** x + residual, and its norm. */
  add(x: Tensor, residual: Tensor): readonly [h: Tensor, y: Tensor] {
    return rmsNormAdd(x, residual, this.factor, this.eps);
  }

  private get factor(): Tensor {
    return this.offset === 0 ? this.weight : add(this.weight, this.offset);
  }
}

/**
 * x + residual, and its norm: in one kernel where the norm is a plain layer. Without a residual, x itself.
 * @returns h = x + residual and norm(h)
 */
export function addThenNorm(
  norm: Module,
  x: Tensor,
  residual: Tensor | null,
): readonly [h: Tensor, y: Tensor] {
  if (!residual) return [x, norm.call(x)];
  if (norm instanceof RMSNorm || norm instanceof LayerNorm) return norm.add(x, residual);
  const h = add(x, residual);
  return [h, norm.call(h)];
}

/** Drops elements with probability `p` in training and scales the others by 1/(1−p). */
export class Dropout extends Module {
  constructor(readonly p = 0.5) {
    super();
    if (!(p >= 0 && p <= 1)) {
      throw new ValueError({ op: "Dropout", arg: "p", expected: "in [0, 1]", got: `${p}` });
    }
  }

  forward(x: Tensor): Tensor {
    return dropout(x, this.p, { training: this.training });
  }
}
