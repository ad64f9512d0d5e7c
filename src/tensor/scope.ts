// Scopes own tensors: everything born in a block is freed when the block ends, unless it was kept.
import { LowrankError } from "../gpu/errors.ts";
import type { Tensor } from "./tensor.ts";

const stack: Scope[] = [];

export class Scope {
  private readonly members = new Set<Tensor>();
  private open = true;

  constructor(private readonly outer: Scope | null) {}

  add<T extends Tensor>(t: T): T {
    this.members.add(t);
    t.scope = this;
    return t;
  }

  /** Takes a tensor out of this scope without freeing it. */
  remove(t: Tensor): void {
    this.members.delete(t);
    t.scope = null;
  }

  /** Hands a tensor to the scope outside, or to the garbage collector where there is none. */
  keep<T extends Tensor>(t: T): T {
    if (t.scope !== this) return t;
    if (!this.outer) return t.persist();
    this.remove(t);
    return this.outer.add(t);
  }

  /** Frees every tensor born in this scope. Throws if an inner scope is still open. */
  dispose(): void {
    if (!this.open) return;
    const inner = stack.splice(stack.lastIndexOf(this));
    for (const scope of inner) {
      scope.open = false;
      for (const t of scope.members) t.dispose();
    }
    if (inner.length > 1) {
      throw new LowrankError(
        "scope: scopes must close in the order inner, outer, got the outer one first. " +
          "Two async functions with scopes ran interleaved: await one before the other.",
      );
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Opens a scope: `using _ = scope();` frees the block's tensors on exit, throw or after an await. */
export function scope(): Scope {
  const opened = new Scope(currentScope());
  stack.push(opened);
  return opened;
}

/** The innermost open scope. */
export function currentScope(): Scope | null {
  return stack[stack.length - 1] ?? null;
}

/** Runs `fn` in a scope of its own and hands its tensors to the scope outside. */
export function scoped<T extends Tensor | readonly Tensor[]>(fn: () => T): T {
  const inner = scope();
  try {
    const result = fn();
    for (const t of Array.isArray(result) ? result : [result]) inner.keep(t as Tensor);
    return result;
  } finally {
    inner.dispose();
  }
}
