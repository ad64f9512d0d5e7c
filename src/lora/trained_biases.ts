// TrainedBiases: the base's own biases that an adapter trains (`bias` of its config), and their values from before.
import type { AnyModule } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CompleteLoraConfig } from "./config.ts";
import type { SavedModule } from "./saved_module.ts";

export class TrainedBiases {
  private readonly before = new Map<string, Tensor>();

  constructor(
    private readonly model: AnyModule,
    private readonly saved: ReadonlyMap<string, SavedModule>,
  ) {}

  /** Those that a config means, by their paths. */
  of({ bias }: CompleteLoraConfig): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    if (bias === "none") return found;
    for (const [path, module] of this.model.namedModules()) {
      const own = (module as { bias?: Tensor | null }).bias;
      const adapted = path.endsWith(".base_layer");
      if (path.includes(".original_module") || this.isCopy(module)) continue;
      if (own && (adapted || bias === "all")) found.set(path ? `${path}.bias` : "bias", own);
    }
    return found;
  }

  /** Copies them before they are trained. */
  remember(config: CompleteLoraConfig): void {
    for (const [path, t] of this.of(config)) this.before.set(path, t.clone().persist());
  }

  /** Brings back what was remembered. */
  restore(config: CompleteLoraConfig): void {
    for (const [path, t] of this.of(config)) {
      const before = this.before.get(path);
      if (!before) continue;
      this.model.setParameter(path, before);
      t.grad?.dispose();
      t.dispose();
      this.before.delete(path);
    }
  }

  /** Forgets the copies: what was trained stays. */
  keep(config: CompleteLoraConfig): void {
    for (const path of this.of(config).keys()) {
      this.before.get(path)?.dispose();
      this.before.delete(path);
    }
  }

  private isCopy(module: AnyModule): boolean {
    return [...this.saved.values()].some((s) => [...s.copies.values()].includes(module));
  }
}
