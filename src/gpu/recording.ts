// What a captured step consists of: everything that one call of it encoded or did on the host, in order,
// as functions that do it again.
import { CaptureError } from "./errors.ts";
import type { Block } from "./pool.ts";

/** A number, or a function that gives it: asked at once, and anew at each replay of a captured step. */
export type Scalar = number | (() => number);

/** The number that a scalar is now. */
export function currentValue(scalar: Scalar): number {
  return typeof scalar === "number" ? scalar : scalar();
}

export class Recording {
  private readonly commands: (() => void)[] = [];
  /** The blocks that commands name, each with who held it when it was first named. */
  readonly tenants = new Map<Block, number>();

  /** @param refusesUploads  off for a trial run, which may still make tables and other constants */
  constructor(readonly refusesUploads: boolean) {}

  /** Appends something to do again at each replay, and the blocks that it names. */
  add(command: () => void, blocks: readonly Block[] = []): void {
    this.commands.push(command);
    for (const block of blocks) {
      if (!this.tenants.has(block)) this.tenants.set(block, block.tenant);
    }
  }

  /** Does everything again. */
  replay(): void {
    for (const command of this.commands) command();
  }
}

let active: Recording | null = null;

/** The recording under way, if there is one. */
export function activeRecording(): Recording | null {
  return active;
}

/** Runs a function and records what it encodes. */
export function record<T>(recording: Recording, fn: () => T): T {
  refuseCapture("capture", "Capture the outer function alone.");
  active = recording;
  try {
    return fn();
  } finally {
    active = null;
  }
}

/**
 * Does something on the host, such as counting a step or drawing a key: now and, where a step is being
 * captured, again at this place of each replay.
 */
export function replayed(action: () => void): void {
  action();
  active?.add(action);
}

/** Throws CaptureError while a step is being captured: for what a replay could not do again. */
export function refuseCapture(op: string, hint: string): void {
  if (!active) return;
  throw new CaptureError({
    op,
    arg: "the call",
    expected: "outside of a captured function",
    got: "one inside",
    hint,
  });
}
