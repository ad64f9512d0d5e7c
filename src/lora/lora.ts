// Lora: the adapters of one model, as one thing to train, switch, merge and take out again.
import { ValueError } from "../gpu/errors.ts";
import type { AnyModule } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type CompleteLoraConfig, completeConfig, type LoraConfig, targetsOf } from "./config.ts";
import { LoraLayer } from "./lora_layer.ts";

/**
 * Freezes a model and gives the linear layers that the config names a low-rank update.
 * The model is changed in place and used as before.
 * @throws ValueError where nothing matches, r does not fit, or the model has adapters already
 */
export function addLora(model: AnyModule, config: LoraConfig = {}): Lora {
  const full = completeConfig(config);
  for (const [path, module] of model.namedModules()) {
    if (!(module instanceof LoraLayer)) continue;
    const hint = "Take them out first: `lora.remove()`.";
    throw new ValueError({
      op: "lora",
      arg: "the model",
      expected: "without adapters",
      got: path,
      hint,
    });
  }
  const targets = targetsOf(model, full);
  model.requiresGrad(false);
  const layers = new Map<string, LoraLayer>();
  for (const [path, base] of targets) {
    const layer = new LoraLayer(base, full);
    layer.training = base.training;
    model.setModule(path, layer);
    layers.set(path, layer);
  }
  return new Lora(model, full, layers);
}

export class Lora {
  constructor(
    readonly model: AnyModule,
    readonly config: CompleteLoraConfig,
    /** The adapted layers by the paths of the layers that they replaced. */
    readonly layers: ReadonlyMap<string, LoraLayer>,
  ) {}

  /** A and B of every layer: what the optimiser trains. */
  parameters(): Tensor[] {
    return [...this.layers.values()].flatMap((layer) => [layer.lora_A, layer.lora_B]);
  }

  /** Number of trained elements, of all elements, and their ratio. */
  count(): { trainable: number; total: number; share: number } {
    const size = (list: Tensor[]) => list.reduce((sum, p) => sum + p.size, 0);
    const trainable = size(this.model.trainableParameters());
    const total = size(this.model.parameters());
    return { trainable, total, share: trainable / total };
  }

  get merged(): boolean {
    return [...this.layers.values()].some((layer) => layer.merged);
  }

  /** Lets the adapters take part again. */
  enable(): void {
    for (const layer of this.layers.values()) layer.enabled = true;
  }

  /** The model computes what its base computes, until `enable()`. */
  disable(): void {
    this.checkNotMerged("disable");
    for (const layer of this.layers.values()) layer.enabled = false;
  }

  /** Adds every update to its weights: no work is left at inference. Bits come back by `unmerge()`. */
  merge(): void {
    for (const layer of this.layers.values()) layer.merge();
  }

  /** Restores the weights of the base bit for bit. */
  unmerge(): void {
    for (const layer of this.layers.values()) layer.unmerge();
  }

  /** Takes the adapters out and frees them; the model is as it was, but frozen. */
  remove(): void {
    this.unmerge();
    this.takeOut();
  }

  /** Makes the updates part of the weights for good, and takes the adapters out. */
  mergeAndUnload(): void {
    for (const layer of this.layers.values()) layer.keepMerged();
    this.takeOut();
  }

  private takeOut(): void {
    for (const [path, layer] of this.layers) {
      this.model.setModule(path, layer.base_layer);
      for (const p of [layer.lora_A, layer.lora_B]) {
        p.grad?.dispose();
        p.dispose();
      }
    }
  }

  private checkNotMerged(op: string): void {
    if (!this.merged) return;
    throw new ValueError({
      op,
      arg: "the adapters",
      expected: "not merged",
      got: "merged ones",
      hint: "Call `unmerge()` first.",
    });
  }
}
