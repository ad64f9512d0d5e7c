// A range of a GPU buffer, shared by the tensors that view it and counted.
import { type Gpu, gpu } from "../gpu/device.ts";
import type { MemoryCategory } from "../gpu/memory.ts";
import type { Block } from "../gpu/pool.ts";
import { activeRecording } from "../gpu/recording.ts";

export class Storage {
  private refs = 1;
  private writes = 0;

  private constructor(
    readonly gpu: Gpu,
    readonly block: Block,
    readonly byteOffset: number,
    readonly byteLength: number,
    private readonly owner: Storage | null,
  ) {}

  /**
   * Reserves at least `bytes`, with arbitrary contents.
   * @param inRanges  it may be larger than a binding, for it will be bound in ranges
   */
  static allocate(op: string, bytes: number, inRanges = false): Storage {
    const device = gpu(op);
    device.stream.throwFailure(op); // before anything is allocated; a lost device would give no buffer
    const { pool } = device;
    const block = pool.acquire(op, bytes, inRanges ? pool.bufferLimit : pool.bindingLimit);
    return new Storage(device, block, 0, bytes, null);
  }

  /** A part of this storage that keeps it alive. `byteOffset` must be a multiple of 256. */
  slice(byteOffset: number, byteLength: number): Storage {
    this.retain();
    return new Storage(this.gpu, this.block, this.byteOffset + byteOffset, byteLength, this);
  }

  /** What the memory is for; that of a slice is for what the whole is. */
  get category(): MemoryCategory {
    return this.block.category;
  }

  set category(category: MemoryCategory) {
    this.gpu.pool.assign(this.block, category);
  }

  /** Notes that the graph keeps it for backward: unless it has a purpose of its own, it is an activation. */
  keep(): void {
    this.gpu.pool.keep(this.block);
  }

  /** Undoes one `keep`. */
  unkeep(): void {
    this.gpu.pool.unkeep(this.block);
  }

  /** Counts in-place changes, so that autograd notices a changed residual; those of the whole count too. */
  get version(): number {
    return this.writes + (this.owner?.version ?? 0);
  }

  /** Notes an in-place change. */
  touch(): void {
    this.writes += 1;
    activeRecording()?.written.add(this);
  }

  retain(): this {
    this.refs += 1;
    return this;
  }

  /** Gives the buffer back once nobody holds it. */
  release(): void {
    this.refs -= 1;
    if (this.refs > 0) return;
    if (this.owner) this.owner.release();
    else this.gpu.pool.release(this.block);
  }

  /** Whether more than one tensor holds this memory. */
  get shared(): boolean {
    return this.refs > 1;
  }
}
