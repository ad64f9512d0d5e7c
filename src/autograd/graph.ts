// The graph that ops leave behind: one node per recorded op, from results to leaves.
import { GradError } from "../gpu/errors.ts";
import { format } from "../tensor/shape.ts";
import type { Storage } from "../tensor/storage.ts";
import type { GraphNode, Tensor } from "../tensor/tensor.ts";

/** Whether ops record a graph: now; not at all; or not yet, but when a checkpoint runs again. */
type Recording = "now" | "never" | "later";

let recording: Recording = "now";

/** Whether ops record a graph now. */
export function gradEnabled(): boolean {
  return recording === "now";
}

/** Whether gradients will be asked for: a graph is recorded now, or will be when a checkpoint runs again. */
export function gradExpected(): boolean {
  return recording !== "never";
}

/** Runs a synchronous function with recording on or off. */
export function withGrad<T>(enabled: boolean, fn: () => T): T {
  return recordingAs(enabled ? "now" : "never", fn);
}

/** Runs a synchronous function that records nothing, but will when it runs again. */
export function gradLater<T>(fn: () => T): T {
  return recordingAs("later", fn);
}

function recordingAs<T>(as: Recording, fn: () => T): T {
  const before = recording;
  recording = as;
  try {
    const result = fn();
    if (result instanceof Promise) {
      throw new GradError({
        op: "noGrad",
        arg: "the function",
        expected: "synchronous",
        got: "one that returns a promise",
        hint: "Wrap each forward pass by itself; reads need no wrapping.",
      });
    }
    return result;
  } finally {
    recording = before;
  }
}

/** Runs a synchronous function without recording a graph. */
export function noGrad<T>(fn: () => T): T {
  return withGrad(false, fn);
}

/** One of the results of a recorded op, as its tensor and later nodes refer to it. */
export class Result implements GraphNode {
  constructor(
    readonly node: Node,
    readonly index: number,
  ) {}

  get op(): string {
    return this.node.op;
  }

  retain(): void {
    this.node.retain();
  }

  release(): void {
    this.node.release();
  }
}

/** Where the gradient of an input goes: on to the op that made it, to a leaf, or nowhere. */
export type Edge = Result | Tensor | null;

/** Gradients of a node's results, in their order; null where nobody used a result. */
export type Upstream = readonly (Tensor | null)[];

/**
 * Gradients of a node's inputs, in their order; null where none is wanted. `last`: the residuals are
 * not needed again, so that they may be overwritten and handed on. `totals`: by input, the sum of its other
 * gradients so far, where there is one that may be written: a rule may add to it and return it.
 */
export type Pull = (
  dys: Upstream,
  last: boolean,
  totals: Upstream,
) => readonly (Tensor | null | undefined)[];

interface Saved {
  handle: Tensor;
  storage: Storage;
  version: number;
}

/** One recorded op. Counted: it lives while a tensor or a later node refers to it. */
export class Node {
  private saved: Saved[] = [];
  private refs = 0;
  private freed = false;

  constructor(
    readonly op: string,
    /** How many results it has. */
    readonly results: number,
    readonly edges: readonly Edge[],
    private pullback: Pull | null,
  ) {
    for (const edge of edges) if (edge instanceof Result) edge.retain();
  }

  /** Holds a tensor's memory until the gradient was computed. Returns the node's own handle. */
  save(t: Tensor): Tensor {
    const handle = t.handle();
    const { storage } = handle;
    storage.keep();
    this.saved.push({ handle, storage, version: storage.version });
    return handle;
  }

  retain(): void {
    this.refs += 1;
  }

  release(): void {
    this.refs -= 1;
    if (this.refs === 0) this.free();
  }

  /** Throws GradError if the graph was freed or a residual was changed in place. */
  check(): void {
    if (!this.pullback) {
      throw new GradError({
        op: "backward",
        arg: "the graph",
        expected: "complete",
        got: `${this.op}, whose residuals an earlier backward() freed`,
        hint: "Compute the loss again, or call backward({ retainGraph: true }) the first time.",
      });
    }
    for (const { handle, version } of this.saved) {
      if (handle.storage.version === version) continue;
      throw new GradError({
        op: `${this.op} backward`,
        arg: "a residual",
        expected: "unchanged since forward",
        got: `a ${handle.dtype}${format(handle.shape)} that was written in place`,
        hint: "Call backward() before the optimiser's step.",
      });
    }
  }

  /** Runs the rule, after the checks of `check()`. */
  pull(dys: Upstream, last: boolean, totals: Upstream): readonly (Tensor | null | undefined)[] {
    this.check();
    return this.pullback!(dys, last, totals);
  }

  /**
   * Drops the residuals; edges stay, so that a second backward() finds the freed node. A rule that saved
   * nothing can run again: losses of several parts of one split() may go backward one after another.
   * @param given  handles that the rule handed on: they have a new owner
   */
  freeResiduals(given?: ReadonlySet<Tensor>): void {
    if (this.saved.length > 0 || this.freed) this.pullback = null;
    for (const { handle, storage } of this.saved) {
      storage.unkeep();
      if (!given?.has(handle)) handle.dispose();
    }
    this.saved = [];
  }

  private free(): void {
    if (this.freed) return;
    this.freed = true;
    this.freeResiduals();
    for (const edge of this.edges) if (edge instanceof Result) edge.release();
  }
}

/** The edge to an input of an op. */
export function edgeTo(t: Tensor): Edge {
  if (!t.requiresGrad) return null;
  return (t.node as Result | null) ?? t;
}
