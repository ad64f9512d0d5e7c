// The two feed-forward parts of decoders: gated as in Llama, and plain as in GPT-2.
import { gelu, linear, mul, relu, silu, swiglu } from "../autograd/ops/index.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { callEach } from "./beside.ts";
import { Conv1D, Dropout, Linear } from "./layers.ts";
import { Module } from "./module.ts";

/** SiLU, GELU by the error function or by tanh, ReLU. */
export type Activation = "silu" | "gelu" | "gelu_tanh" | "relu";

/**
 * y = down_proj(activation(gate_proj(x)) · up_proj(x)); with SiLU this is SwiGLU (Shazeer 2020,
 * arXiv 2002.05202). x: [..., width], y the same.
 */
export class GatedMLP extends Module {
  gate_proj: Module;
  up_proj: Module;
  down_proj: Module;
  private readonly activation: Activation;

  /** @param options  `activation` (default silu); `bias` (default false); `std` of fresh weights (default: Linear's own) */
  constructor(
    width: number,
    innerWidth: number,
    options: { activation?: Activation; bias?: boolean; std?: number } = {},
  ) {
    super();
    const { activation = "silu", bias = false, ...std } = options;
    this.activation = activation;
    this.gate_proj = new Linear(width, innerWidth, { bias, ...std });
    this.up_proj = new Linear(width, innerWidth, { bias, ...std });
    this.down_proj = new Linear(innerWidth, width, { bias, ...std });
  }

  forward(x: Tensor): Tensor {
    const [gate, up] = callEach(x, [this.gate_proj, this.up_proj]);
    return this.down_proj.call(this.gated(gate!, up!));
  }

  private gated(gate: Tensor, up: Tensor): Tensor {
    if (this.activation === "silu") return swiglu(gate, up);
    return mul(activated(this.activation, gate), up);
  }
}

/** y = dropout(c_proj(activation(c_fc(x)))), with GPT-2's Conv1D. x: [..., width], y the same. */
export class MLP extends Module {
  c_fc: Module;
  c_proj: Module;
  dropout: Dropout;
  private readonly activation: Activation;

  /** @param options  `activation` (default gelu_tanh); `dropout` (default 0); `std` of fresh weights (default 0.02) */
  constructor(
    width: number,
    innerWidth: number,
    options: { activation?: Activation; dropout?: number; std?: number } = {},
  ) {
    super();
    const { activation = "gelu_tanh", dropout = 0, std = 0.02 } = options;
    this.activation = activation;
    this.c_fc = new Conv1D(width, innerWidth, std);
    this.c_proj = new Conv1D(innerWidth, width, std);
    this.dropout = new Dropout(dropout);
  }

  forward(x: Tensor): Tensor {
    return this.dropout.call(this.c_proj.call(this.inner(x)));
  }

  /** activation(c_fc(x)). GELU adds the bias of a plain layer itself, and sums its gradient on the way. */
  private inner(x: Tensor): Tensor {
    const { c_fc, activation } = this;
    const form = GELU_FORMS[activation];
    if (!form || !(c_fc instanceof Conv1D)) return activated(activation, c_fc.call(x));
    return gelu(linear(x, c_fc.weight, null, { transposed: true }), form, c_fc.bias);
  }
}

const GELU_FORMS: { readonly [name in Activation]?: "tanh" | "none" } = {
  gelu: "none",
  gelu_tanh: "tanh",
};

function activated(activation: Activation, x: Tensor): Tensor {
  const form = GELU_FORMS[activation];
  if (form) return gelu(x, form);
  return activation === "silu" ? silu(x) : relu(x);
}
