// A finished recording, and the memory that a replay of it must find as it was.
import { CaptureError } from "./errors.ts";
import type { Rise } from "./memory.ts";
import type { Block, Pool } from "./pool.ts";
import type { Recording, Written } from "./recording.ts";

export class Plan {
  /** Memory from before the call, such as inputs and parameters, and who held it. */
  private readonly inputs = new Map<Block, number>();
  /** Memory that was born in the call and outlived it, such as results. */
  private readonly outputs = new Map<Block, number>();
  /** Memory that the call gave back. Between replays anybody may use it. */
  private readonly scratch = new Set<Block>();
  private readonly written: Written[];
  private owns = false;

  /**
   * To be made when the call is over and its tensors are freed.
   * @param since  the pool's count of tenants before the call
   * @param rise  by how much the call raised the memory in use
   * @throws CaptureError where the call used memory from before it and freed it
   */
  constructor(
    private readonly pool: Pool,
    private readonly recording: Recording,
    since: number,
    private rise: Rise | null,
  ) {
    for (const [block, first] of recording.tenants) {
      if (first <= since) this.inputs.set(block, first);
      else if (block.tenant <= 0) this.scratch.add(block);
      else this.outputs.set(block, block.tenant);
    }
    this.checkInputs();
    this.written = [...recording.written].filter(({ block }) => this.inputs.has(block));
  }

  /** Keeps the memory that the call gave back for itself, as long as the plan lives. */
  own(): void {
    for (const block of this.scratch) if (block.tenant !== 0) return; // destroyed for want of room
    this.pool.withdraw("capture", this.scratch);
    this.owns = true;
    this.rise = null;
  }

  /** Whether nothing has happened to the memory that a replay needs. */
  isReady(): boolean {
    if (!isIntact(this.inputs) || !isIntact(this.outputs)) return false;
    if (this.owns) return true;
    for (const block of this.scratch) if (block.tenant !== 0) return false;
    return true;
  }

  /** Whether somebody holds memory that the call had given back. */
  isLent(): boolean {
    if (this.owns) return false;
    for (const block of this.scratch) if (block.tenant > 0) return true;
    return false;
  }

  /** Does all that was recorded again. */
  replay(): void {
    if (this.rise) this.pool.noteRise(this.rise);
    for (const command of this.recording.commands) command();
    for (const part of this.written) part.touch();
  }

  dispose(): void {
    if (this.owns) for (const block of this.scratch) this.pool.release(block);
    this.owns = false;
  }

  private checkInputs(): void {
    for (const [block, tenant] of this.inputs) {
      if (block.tenant === tenant) continue;
      throw new CaptureError({
        op: "capture",
        arg: "a tensor from outside that the function uses",
        expected: "alive after the call",
        got: `one of up to ${block.bytes} bytes that it freed`,
        hint: "Update it in place, or make it inside.",
      });
    }
  }
}

function isIntact(blocks: ReadonlyMap<Block, number>): boolean {
  for (const [block, tenant] of blocks) if (block.tenant !== tenant) return false;
  return true;
}
