// Optimizer: what AdamW and SGD have in common: groups, gradients, saving.
import { CaptureError, FormatError, ValueError } from "../../gpu/errors.ts";
import { refuseCapture, replayed } from "../../gpu/recording.ts";
import { ones } from "../../tensor/create.ts";
import { format, sameShape } from "../../tensor/shape.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { copyStorage, packed, type Segment } from "./arena.ts";

/** Parameters with their own learning rate or weight decay. */
export interface ParameterGroup {
  params: readonly Tensor[];
  lr?: number;
  weightDecay?: number;
}

/** The settings of a group, which may change between steps. */
export interface GroupSettings {
  lr: number;
  weightDecay: number;
}

/** What a step remembers. Tensors by `<index of the parameter>.<name>`, names as in PyTorch. */
export interface OptimizerState {
  step: number;
  tensors: Map<string, Tensor>;
}

/**
 * Base of the optimisers. Construction packs the parameters into one buffer (`arena.ts`).
 *
 * A parameter that got no gradient counts as one with gradient zero: momentum and weight decay act on
 * it. (PyTorch leaves a parameter alone while its `grad` is None.) Leave out what must not move.
 */
export abstract class Optimizer {
  readonly groups: GroupSettings[];
  /** Steps taken. */
  steps = 0;
  protected readonly segments: Segment[];
  private readonly one: Tensor;
  private readonly factor: Tensor;
  private clipped = false;

  protected constructor(
    protected readonly op: string,
    params: readonly Tensor[] | readonly ParameterGroup[],
    defaults: GroupSettings,
    private readonly stateNames: readonly string[],
  ) {
    const groups = asGroups(params);
    this.groups = groups.map(({ lr = defaults.lr, weightDecay = defaults.weightDecay }) => ({
      lr,
      weightDecay,
    }));
    this.checkSettings();
    this.segments = packed(
      op,
      groups.map((g) => g.params),
      stateNames,
    );
    this.one = ones([1]).persist();
    this.factor = ones([1]).persist();
    for (const t of [this.one, this.factor]) t.storage.category = "optimiser";
  }

  /** Learning rate of the first group; setting it sets all groups. */
  get lr(): number {
    return this.groups[0]!.lr;
  }

  set lr(value: number) {
    refuseCapture(this.op, "setting lr", "Set it before each call, or step a Scheduler inside.");
    checkNumber(this.op, "lr", value, value >= 0, "a number of at least 0");
    for (const group of this.groups) group.lr = value;
  }

  /** Moves every parameter by one step along its gradient. Gradients stay: see `zeroGrad`. */
  step(): void {
    replayed(() => this.checkSettings());
    for (const segment of this.segments) segment.collect(this.op);
    const { clipped } = this;
    replayed(() => this.count(clipped));
    const clip = clipped ? this.factor : this.one;
    for (const segment of this.segments) this.update(segment, this.groups[segment.group]!, clip);
  }

  /** Sets all gradients to zero with one command. `p.grad` stays bound to the arena. */
  zeroGrad(): void {
    for (const segment of this.segments) segment.zeroGrad();
    this.setClipped(false);
  }

  /**
   * The gradients as flat tensors, and where the factor goes by which the next step shall multiply
   * them; for `clipGradNorm`.
   */
  clipping(op: string): { gradients: Tensor[]; factor: Tensor } {
    for (const segment of this.segments) segment.collect(op);
    this.setClipped(true);
    return { gradients: this.segments.map((s) => s.gradients), factor: this.factor };
  }

  /** Steps and state: views of the optimiser's memory, not copies. Settings are not part of it. */
  stateDict(): OptimizerState {
    const tensors = new Map<string, Tensor>();
    let first = 0;
    for (const segment of this.segments) {
      const count = segment.members.length;
      for (const name of this.stateNames) {
        for (let i = 0; i < count; i++) {
          tensors.set(`${first + i}.${name}`, segment.part(segment.state.get(name)!, i));
        }
      }
      first += count;
    }
    return { step: this.steps, tensors };
  }

  /**
   * Copies a saved state in; the next step continues bit for bit.
   * @throws FormatError naming what does not fit; nothing is changed then
   */
  loadStateDict({ step, tensors }: OptimizerState): void {
    const own = this.stateDict().tensors;
    const problems = Number.isInteger(step) && step >= 0 ? [] : [`step is ${step}`];
    for (const [name, t] of own) problems.push(...misfit(name, t, tensors.get(name)));
    for (const name of tensors.keys()) if (!own.has(name)) problems.push(`unknown ${name}`);
    if (problems.length > 0) {
      const shown = problems.slice(0, 20).join("; ");
      throw new FormatError(`${this.op}: the state does not fit: ${shown}. Nothing was changed.`);
    }
    for (const [name, t] of own) copyStorage(tensors.get(name)!.storage, t.storage, t.bytes);
    for (const t of own.values()) t.dispose();
    this.steps = step;
  }

  /** Frees gradients and state. The parameters keep their values. */
  dispose(): void {
    for (const segment of this.segments) segment.dispose();
    this.one.dispose();
    this.factor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  protected abstract update(segment: Segment, settings: GroupSettings, clip: Tensor): void;

  private count(clipped: boolean): void {
    if (this.clipped !== clipped) {
      const expected = `as when it was captured, ${clipped ? "after" : "without"} clipGradNorm`;
      throw new CaptureError({ op: this.op, arg: "step()", expected });
    }
    this.clipped = false;
    this.steps += 1;
  }

  private setClipped(value: boolean): void {
    replayed(() => {
      this.clipped = value;
    });
  }

  private checkSettings(): void {
    for (const { lr, weightDecay } of this.groups) {
      checkNumber(this.op, "lr", lr, lr >= 0, "a number of at least 0");
      checkNumber(this.op, "weightDecay", weightDecay, weightDecay >= 0, "a number of at least 0");
    }
  }
}

/** Throws ValueError unless `value` is finite and `good`. */
export function checkNumber(
  op: string,
  arg: string,
  value: number,
  good: boolean,
  expected: string,
): void {
  if (good && Number.isFinite(value)) return;
  throw new ValueError({ op, arg, expected, got: `${value}` });
}

function asGroups(params: readonly Tensor[] | readonly ParameterGroup[]): ParameterGroup[] {
  const list = params as readonly (Tensor | ParameterGroup)[];
  if (list.every((p) => p instanceof Tensor)) return [{ params: list as readonly Tensor[] }];
  return list as ParameterGroup[];
}

function misfit(name: string, own: Tensor, given: Tensor | undefined): string[] {
  if (!given) return [`missing ${name}`];
  given.checkAlive("loadStateDict", name);
  if (given.dtype === "f32" && sameShape(own.shape, given.shape)) return [];
  return [`${name} is ${given.dtype}${format(given.shape)}, expected f32${format(own.shape)}`];
}
