// Module: a tree of parameters with names. Its own Tensor properties are parameters, its own Module
// properties (and arrays of modules) are children; what must not be saved goes into #private fields.
import { FormatError, ValueError } from "../gpu/errors.ts";
import type { DType } from "../tensor/dtype.ts";
import { scoped } from "../tensor/scope.ts";
import { format, sameShape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Base class of everything with parameters. `A` are the arguments of `forward`, `Y` is its result. */
export abstract class Module<
  A extends unknown[] = [Tensor],
  Y extends Tensor | readonly Tensor[] = Tensor,
> {
  /** True in training, false in evaluation; set by `train()` and `eval()`. */
  training = true;

  /** Computes the result. Call `call()`, which frees the intermediates. */
  abstract forward(...args: A): Y;

  /** Runs `forward` in a scope of its own: only the result, and what backward needs, stays. */
  call(...args: A): Y {
    return scoped(() => this.forward(...args));
  }

  /** The direct children, by property name; members of an array as `layers.0`. */
  *children(): Generator<[string, AnyModule]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value];
      if (!Array.isArray(value)) continue;
      for (const [i, item] of value.entries()) {
        if (item instanceof Module) yield [`${name}.${i}`, item];
      }
    }
  }

  /** Every module below, this one first under the name `""`. */
  *namedModules(prefix = ""): Generator<[string, AnyModule]> {
    yield [prefix, this as AnyModule];
    for (const [name, child] of this.children()) {
      yield* child.namedModules(prefix ? `${prefix}.${name}` : name);
    }
  }

  /** Every parameter with its dotted name, frozen ones included; a shared one under its first name. */
  *namedParameters(): Generator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const [path, module] of this.namedModules()) {
      for (const [name, value] of Object.entries(module)) {
        if (!(value instanceof Tensor) || seen.has(value)) continue;
        seen.add(value);
        yield [path ? `${path}.${name}` : name, value];
      }
    }
  }

  /** Every parameter, frozen ones included. */
  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, p]) => p);
  }

  /** The parameters that want gradients. */
  trainableParameters(): Tensor[] {
    return this.parameters().filter((p) => p.requiresGrad);
  }

  /** Parameters by name: the tensors themselves, not copies. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.namedParameters());
  }

  /**
   * Puts tensors in the place of the parameters; the module owns them from then on and frees the
   * old ones. One that does not come as f32 is frozen; int8 and nf4 are for weights of linear layers. Nothing changes if a name is missing or unknown, or
   * a shape or a type does not fit.
   * @throws FormatError listing all of them
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>): void {
    const own = this.stateDict();
    checkState(own, state);
    for (const [name, t] of state) {
      const old = own.get(name)!;
      if (old === t) continue;
      this.setParameter(name, t);
      t.requiresGrad = old.requiresGrad && t.dtype === "f32";
      old.dispose();
    }
  }

  /** The module at a dotted path, such as `model.layers.0.mlp`. */
  module(path: string): AnyModule {
    for (const [name, m] of this.namedModules()) if (name === path) return m;
    throw unknownPath("module", "module", path);
  }

  /** Replaces the child at a dotted path. The old one is not freed. */
  setModule(path: string, to: AnyModule): void {
    this.module(path);
    this.assign(path, to);
  }

  /** Replaces the parameter at a dotted path. The old one is not freed. */
  setParameter(path: string, to: Tensor): void {
    if (!this.stateDict().has(path)) throw unknownPath("setParameter", "parameter", path);
    const { storage } = to.persist();
    if (storage.category === "workspace") storage.category = "base";
    this.assign(path, to);
  }

  private assign(path: string, value: AnyModule | Tensor): void {
    const parts = path.split(".");
    const last = parts.pop()!;
    let at: unknown = this;
    for (const part of parts) {
      // A child may be no property: an adapter is a child of its layer by the adapter's name.
      const child = at instanceof Module ? new Map(at.children()).get(part) : undefined;
      at = child ?? (at as Record<string, unknown>)[part];
    }
    (at as Record<string, unknown>)[last] = value;
  }

  /** Marks every parameter as trainable or frozen. */
  requiresGrad(value = true): this {
    for (const p of this.parameters()) p.requiresGrad = value;
    return this;
  }

  /** Training mode: dropout drops. */
  train(mode = true): this {
    for (const [, m] of this.namedModules()) m.training = mode;
    return this;
  }

  /** Evaluation mode: dropout is the identity. */
  eval(): this {
    return this.train(false);
  }

  /** Frees the gradients. */
  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose();
      p.grad = null;
    }
  }

  /** Frees all parameters and their gradients. */
  dispose(): void {
    this.zeroGrad();
    for (const p of this.parameters()) p.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A module whatever its arguments. */
// biome-ignore lint/suspicious/noExplicitAny: `forward` is contravariant, so no other type fits all.
export type AnyModule = Module<any>;

function unknownPath(op: string, kind: "module" | "parameter", path: string): ValueError {
  const hint = kind === "module" ? "`namedModules()`" : "`namedParameters()`";
  const facts = { arg: "path", expected: `the name of a ${kind}`, got: JSON.stringify(path) };
  return new ValueError({ op, ...facts, hint: `List them with ${hint}.` });
}

/** What parameters may be stored as. */
const HELD: readonly DType[] = ["f32", "f16", "bf16", "int8", "nf4"];

function checkState(own: Map<string, Tensor>, state: ReadonlyMap<string, Tensor>): void {
  const problems: string[] = [];
  for (const [name, p] of own) {
    const t = state.get(name);
    if (!t) problems.push(`missing ${name}`);
    else if (t.disposed) problems.push(`${name} was freed`);
    else if (!HELD.includes(t.dtype)) problems.push(`${name} is ${t.dtype}, expected f32`);
    else if (!sameShape(t.shape, p.shape)) {
      problems.push(`${name} is ${format(t.shape)}, expected ${format(p.shape)}`);
    }
  }
  for (const name of state.keys()) if (!own.has(name)) problems.push(`unknown ${name}`);
  if (problems.length === 0) return;
  const shown = problems.slice(0, 20).join("; ");
  throw new FormatError(
    `loadStateDict: ${problems.length} tensors do not fit: ${shown}` +
      `${problems.length > 20 ? "; …" : ""}. Nothing was changed.`,
  );
}
