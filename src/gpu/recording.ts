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

/** A part of a block that counts how often it was written. */
export interface Written {
  readonly block: Block;
  touch(): void;
}

export class Recording {
  readonly commands: (() => void)[] = [];
  /** The blocks that commands name, each with the tenant that it had first. */
  readonly tenants = new Map<Block, number>();
  readonly written = new Set<Written>();

  /** @param refusesUploads  off for a trial run, which may still make tables and other constants */
  constructor(readonly refusesUploads: boolean) {}

  /** Appends something to do again at each replay, and the blocks that it names. */
  add(command: () => void, blocks: readonly Block[] = []): void {
    this.commands.push(command);
    for (const block of blocks) {
      if (!this.tenants.has(block)) this.tenants.set(block, block.tenant);
    }
  }
}

let active: Recording | null = null;

/** The recording under way, if there is one. */
export function activeRecording(): Recording | null {
  return active;
}

/** Runs a function and records what it encodes. */
export function record<T>(recording: Recording, fn: () => T): T {
  refuseCapture("capture", "the call", "Capture the outer function alone.");
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
export function refuseCapture(op: string, arg: string, hint: string): void {
  if (!active) return;
  const expected = "outside of a captured function";
  throw new CaptureError({ op, arg, expected, got: "one inside", hint });
}

/** Throws CaptureError while a step is being recorded whose uploads a replay would not repeat. */
export function refuseUpload(op: string): void {
  if (!active?.refusesUploads) return;
  const hint =
    "Its bytes would be the same in every replay: make it before, and `x.set(values)` between.";
  refuseCapture(op, "the upload", hint);
}
