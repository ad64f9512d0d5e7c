// SavedModule: a layer of which adapters have full copies (PEFT's modules_to_save).
import { ValueError } from "../gpu/errors.ts";
import { type HeadModule, type PlainHead, plainHeadOf } from "../nn/causal_lm.ts";
import { Conv1D, Embedding, LayerNorm, Linear, RMSNorm } from "../nn/layers.ts";
import { type AnyModule, Module } from "../nn/module.ts";
import { parameter } from "../tensor/create.ts";
import { isQuantized } from "../tensor/quantized.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { Switches } from "./switches.ts";
import { toF32 } from "./to_f32.ts";

const LAYERS = [Linear, Conv1D, Embedding, LayerNorm, RMSNorm];

/** A layer with the same sizes and trainable f32 copies of its parameters. */
function copyOf(layer: AnyModule): AnyModule {
  const copy = Object.assign(Object.create(Object.getPrototypeOf(layer)), layer) as AnyModule;
  for (const [name, value] of Object.entries(layer)) {
    if (value instanceof Tensor) copy.setParameter(name, parameter(toF32(value)));
  }
  return copy;
}

export class SavedModule extends Module<unknown[]> implements HeadModule {
  /** The layer of the base, frozen. */
  original_module: AnyModule;
  /** The copies by the names of their adapters. */
  readonly copies = new Map<string, AnyModule>();

  constructor(
    original: AnyModule,
    private readonly switches: Switches,
  ) {
    super();
    this.original_module = original;
    this.training = original.training;
  }

  /** Throws ValueError unless the module is a plain layer with weights that can be trained. */
  static check(path: string, module: AnyModule): void {
    const { weight } = module as { weight?: unknown };
    if (weight instanceof Tensor && isQuantized(weight.dtype)) {
      const expected = "made of names of layers that are not quantised";
      const got = `${path}, whose weight is ${weight.dtype}`;
      throw new ValueError({ op: "lora", arg: "modules_to_save", expected, got });
    }
    if (module instanceof SavedModule || LAYERS.some((kind) => module instanceof kind)) return;
    const got = `${path}, a ${module.constructor.name}`;
    const expected = "made of names of plain layers";
    throw new ValueError({ op: "lora", arg: "modules_to_save", expected, got });
  }

  override *children(): Generator<[string, AnyModule]> {
    yield ["original_module", this.original_module];
    yield* this.copies;
  }

  /** The base's own weight, as a tied output head reads it. */
  get weight(): Tensor {
    return (this.original_module as Linear).weight;
  }

  /** Gives an adapter its copy. */
  add(adapter: string): void {
    this.copies.set(adapter, copyOf(this.original_module));
  }

  /** Frees an adapter's copy. */
  delete(adapter: string): void {
    this.copies.get(adapter)?.dispose();
    this.copies.delete(adapter);
  }

  /** The layer that computes now. */
  get current(): AnyModule {
    const { active, enabled, rows } = this.switches;
    const name = rows ? undefined : active.find((adapter) => this.copies.has(adapter));
    return name !== undefined && enabled ? this.copies.get(name)! : this.original_module;
  }

  /** As an output head: what computes now, which may be trained. */
  asHead(): PlainHead | null {
    return plainHeadOf(this.current, this.weight);
  }

  forward(...args: unknown[]): Tensor {
    return this.current.forward(...args);
  }
}
