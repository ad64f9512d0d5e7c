// The one place that encodes. Dispatches are appended to one command encoder and submitted in chunks;
// a buffer that pending work uses is never written or destroyed before that work was submitted.
import { DeviceError } from "./errors.ts";
import { Failures } from "./failures.ts";
import { ParamRing } from "./param_ring.ts";
import type { Block, Pool } from "./pool.ts";
import type { Profiler, Work } from "./profiler.ts";
import { activeRecording, refuseCapture, refuseUpload } from "./recording.ts";
import { Staging } from "./staging.ts";
import { patiently } from "./wait.ts";

const DISPATCHES_PER_SUBMIT = 64;
const FIRST_SUBMIT = 8;
const NOTHING: Work = { flops: 0, bytes: 0 };

/** One dispatch, ready to encode. */
export interface Dispatch {
  label: string;
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  /** A whole buffer: Dawn's binding takes it in a quarter of the time that it needs for a typed array. */
  params: ArrayBuffer;
  groups: readonly [number, number, number];
  blocks: readonly Block[];
  /** What it does, for a profile; null where nobody asks. */
  work: Work | null;
  /** Packs the parameters that may have changed; called before each replay. */
  repack?: (() => void) | null;
}

export class Stream {
  dispatches = 0;
  submits = 0;
  profiler: Profiler | null = null;
  private serial = 1;
  private encoder: GPUCommandEncoder | null = null;
  private pass: GPUComputePassEncoder | null = null;
  private pipeline: GPUComputePipeline | null = null; // what the pass has set
  private inEncoder = 0;
  private idle = true;
  /** When what calls of `pace` submitted has run, oldest first. */
  private readonly ahead: Promise<unknown>[] = [];
  private readonly failures: Failures;
  private readonly staging: Staging;
  private readonly ring: ParamRing | null;

  constructor(
    private readonly device: GPUDevice,
    immediates: boolean,
    private readonly naps: boolean,
  ) {
    this.failures = new Failures(device);
    this.staging = new Staging(device);
    this.ring = immediates ? null : new ParamRing(device);
  }

  /** Layout of the group that carries parameters, where they are no immediates. */
  get paramLayout(): GPUBindGroupLayout | null {
    return this.ring?.layout ?? null;
  }

  /** Appends one dispatch. Empty grids are dropped. */
  dispatch(work: Dispatch): void {
    this.throwFailure(work.label);
    const { groups, blocks, params } = work;
    if (groups[0] === 0 || groups[1] === 0 || groups[2] === 0) return;
    activeRecording()?.add(() => this.redispatch(work), blocks);
    for (const block of blocks) block.lastUse = this.serial;
    this.failures.encoded(work.label);
    const pass = this.openPass(work);
    if (this.pipeline !== work.pipeline) pass.setPipeline(work.pipeline);
    this.pipeline = work.pipeline;
    pass.setBindGroup(0, work.bindGroup);
    if (params.byteLength > 0) {
      if (this.ring) this.ring.set(pass, params);
      else pass.setImmediates(0, params);
    }
    pass.dispatchWorkgroups(groups[0], groups[1], groups[2]);
    this.dispatches += 1;
    if (this.profiler) this.closePass();
    this.encoded();
  }

  copy(from: Block, fromOffset: number, to: Block, toOffset: number, bytes: number): void {
    if (bytes === 0) return;
    activeRecording()?.add(() => this.copy(from, fromOffset, to, toOffset, bytes), [from, to]);
    const encoder = this.openEncoder();
    from.lastUse = this.serial;
    to.lastUse = this.serial;
    encoder.copyBufferToBuffer(from.buffer, fromOffset, to.buffer, toOffset, bytes);
    this.encoded();
  }

  clear(block: Block, offset: number, bytes: number): void {
    if (bytes === 0) return;
    activeRecording()?.add(() => this.clear(block, offset, bytes), [block]);
    const encoder = this.openEncoder();
    block.lastUse = this.serial;
    encoder.clearBuffer(block.buffer, offset, bytes);
    this.encoded();
  }

  /** Uploads bytes (a multiple of 4). Work that was recorded before sees the old contents. */
  write(block: Block, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.throwFailure("write");
    refuseUpload("write");
    if (bytes.byteLength === 0) return;
    if (block.lastUse === this.serial) this.flush();
    this.device.queue.writeBuffer(block.buffer, offset, bytes);
  }

  /** Submits what was recorded. */
  flush(): void {
    if (!this.encoder) return;
    this.closePass();
    this.ring?.write();
    this.profiler?.resolve(this.encoder);
    this.device.queue.submit([this.encoder.finish()]);
    this.encoder = null;
    this.inEncoder = 0;
    this.idle = false;
    this.serial += 1;
    this.submits += 1;
  }

  /** Reads `bytes` (a multiple of 4) of a buffer, after all work recorded so far. */
  read(block: Block, offset: number, bytes: number): Promise<ArrayBuffer> {
    refuseCapture("read", "the read", "Read what the captured step returns.");
    return this.readBack(block, offset, bytes);
  }

  private async readBack(block: Block, offset: number, bytes: number): Promise<ArrayBuffer> {
    this.throwFailure("read");
    if (bytes === 0) return new ArrayBuffer(0);
    const target = this.staging.take(bytes);
    this.openEncoder().copyBufferToBuffer(block.buffer, offset, target, 0, bytes);
    this.flush();
    try {
      await patiently(target.mapAsync(1, 0, bytes), this.naps);
    } catch (error) {
      target.destroy();
      await this.failures.settle("read");
      throw new DeviceError(`read: the GPU did not answer. ${(error as Error).message}`);
    }
    this.idle = true;
    const copy = target.getMappedRange(0, bytes).slice(0);
    target.unmap();
    this.staging.give(target);
    this.throwFailure("read");
    return copy;
  }

  /** Resolves when everything recorded so far has run; rejects with what went wrong on the way. */
  sync(): Promise<void> {
    refuseCapture("sync", "the wait", "Wait after the captured step was called.");
    return this.settled();
  }

  private async settled(): Promise<void> {
    this.flush();
    await this.finished("sync", this.device.queue.onSubmittedWorkDone());
    this.idle = true;
    this.throwFailure("sync");
  }

  /** Submits what was recorded; resolves when what all but the last `rounds` calls submitted has run. */
  async pace(rounds: number): Promise<void> {
    refuseCapture("pace", "the wait", "Wait after the captured step was called.");
    this.flush();
    const done = this.device.queue.onSubmittedWorkDone();
    done.catch(() => {}); // who waits for it hears of it
    this.ahead.push(done);
    while (this.ahead.length > rounds) await this.finished("pace", this.ahead.shift()!);
    this.throwFailure("pace");
  }

  private async finished(op: string, done: Promise<unknown>): Promise<void> {
    try {
      await patiently(done, this.naps);
    } catch (error) {
      await this.failures.settle(op);
      throw new DeviceError(`${op}: the GPU did not answer. ${(error as Error).message}`);
    }
  }

  /** Throws, once, the first error that the device reported since the last look; a loss, always, as `op`'s. */
  throwFailure(op: string): void {
    this.failures.throwAny(op);
  }

  destroy(pool: Pool): void {
    this.failures.close();
    this.flush();
    pool.trim();
    this.staging.destroy();
    this.ring?.destroy();
  }

  private redispatch(work: Dispatch): void {
    work.repack?.();
    this.dispatch(work);
  }

  /** Counts a command, and submits when there are enough. */
  private encoded(): void {
    this.inEncoder += 1;
    // The first chunk of a burst is small, so that the GPU starts while JavaScript goes on encoding.
    const enough = this.inEncoder >= (this.idle ? FIRST_SUBMIT : DISPATCHES_PER_SUBMIT);
    if (enough || this.ring?.full) this.flush();
  }

  private openEncoder(): GPUCommandEncoder {
    this.closePass();
    this.encoder ??= this.device.createCommandEncoder({ label: "lowrank" });
    return this.encoder;
  }

  private openPass({ label, work }: Dispatch): GPUComputePassEncoder {
    if (this.pass) return this.pass;
    this.encoder ??= this.device.createCommandEncoder({ label: "lowrank" });
    const timestampWrites = this.profiler?.next(label, work ?? NOTHING);
    this.pass = this.encoder.beginComputePass({
      label,
      ...(timestampWrites ? { timestampWrites } : {}),
    });
    this.pipeline = null;
    return this.pass;
  }

  private closePass(): void {
    this.pass?.end();
    this.pass = null;
  }
}
