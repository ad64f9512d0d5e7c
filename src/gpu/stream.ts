// The one place that encodes. Dispatches are appended to one command encoder and submitted in chunks;
// a buffer that pending work uses is never written or destroyed before that work was submitted.
import { DeviceError } from "./errors.ts";
import type { Block, Pool } from "./pool.ts";
import type { Profiler } from "./profiler.ts";
import { patiently } from "./wait.ts";

const DISPATCHES_PER_SUBMIT = 64;
const FIRST_SUBMIT = 8;
const PARAM_SLOTS = 256;
const PARAM_SLOT_BYTES = 256;
const MAP_READ_COPY_DST = 0x01 | 0x08;
const UNIFORM_COPY_DST = 0x40 | 0x08;
const KEPT_STAGING_BYTES = 4 * 2 ** 20;
const RECENT = 12;

/** One dispatch, ready to encode. */
export interface Dispatch {
  label: string;
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  params: Uint32Array<ArrayBuffer>;
  groups: readonly [number, number, number];
  blocks: readonly Block[];
}

export class Stream {
  dispatches = 0;
  submits = 0;
  profiler: Profiler | null = null;
  private serial = 1;
  private encoder: GPUCommandEncoder | null = null;
  private pass: GPUComputePassEncoder | null = null;
  private inEncoder = 0;
  private idle = true;
  private readonly recent: string[] = [];
  private recentNext = 0;
  private failure: DeviceError | null = null;
  /** Why the device is gone: set for good, and every later use throws. */
  private lossCause: string | null = null;
  private closed = false;
  private readonly staging = new Map<number, GPUBuffer[]>();
  private paramBuffer: GPUBuffer | null = null;
  private paramGroup: GPUBindGroup | null = null;
  private readonly paramData = new Uint8Array(PARAM_SLOTS * PARAM_SLOT_BYTES);
  private paramSlot = 0;
  readonly paramLayout: GPUBindGroupLayout | null;

  constructor(
    private readonly device: GPUDevice,
    private readonly immediates: boolean,
    private readonly naps: boolean,
  ) {
    this.paramLayout = immediates ? null : this.createParams();
    device.onuncapturederror = (event) => {
      event.preventDefault(); // or the binding prints it too
      this.fail(event.error.message);
    };
    device.lost
      .then((info) => {
        if (!this.closed) this.lossCause = (info.message || info.reason).trim();
      })
      .catch(() => {});
  }

  /** Appends one dispatch. Empty grids are dropped. */
  dispatch(work: Dispatch): void {
    this.throwFailure(work.label);
    const [x, y, z] = work.groups;
    if (x === 0 || y === 0 || z === 0) return;
    for (const block of work.blocks) block.lastUse = this.serial;
    this.recent[this.recentNext++ % RECENT] = work.label;
    const pass = this.openPass(work.label);
    pass.setPipeline(work.pipeline);
    pass.setBindGroup(0, work.bindGroup);
    if (work.params.length > 0) this.setParams(pass, work.params);
    pass.dispatchWorkgroups(x, y, z);
    this.dispatches += 1;
    this.inEncoder += 1;
    if (this.profiler) this.closePass();
    // The first chunk of a burst is small, so that the GPU starts while JavaScript goes on encoding.
    if (this.inEncoder >= (this.idle ? FIRST_SUBMIT : DISPATCHES_PER_SUBMIT)) this.flush();
  }

  copy(from: Block, fromOffset: number, to: Block, toOffset: number, bytes: number): void {
    if (bytes === 0) return;
    const encoder = this.openEncoder();
    from.lastUse = this.serial;
    to.lastUse = this.serial;
    encoder.copyBufferToBuffer(from.buffer, fromOffset, to.buffer, toOffset, bytes);
    this.inEncoder += 1;
  }

  clear(block: Block, offset: number, bytes: number): void {
    if (bytes === 0) return;
    const encoder = this.openEncoder();
    block.lastUse = this.serial;
    encoder.clearBuffer(block.buffer, offset, bytes);
    this.inEncoder += 1;
  }

  /** Uploads bytes (a multiple of 4). Work that was recorded before sees the old contents. */
  write(block: Block, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.throwFailure("write");
    if (bytes.byteLength === 0) return;
    if (block.lastUse === this.serial) this.flush();
    this.device.queue.writeBuffer(block.buffer, offset, bytes);
  }

  /** Submits what was recorded. */
  flush(): void {
    if (!this.encoder) return;
    this.closePass();
    if (this.paramSlot > 0 && this.paramBuffer) {
      const used = this.paramData.subarray(0, this.paramSlot * PARAM_SLOT_BYTES);
      this.device.queue.writeBuffer(this.paramBuffer, 0, used);
      this.paramSlot = 0;
    }
    this.profiler?.resolve(this.encoder);
    this.device.queue.submit([this.encoder.finish()]);
    this.encoder = null;
    this.inEncoder = 0;
    this.idle = false;
    this.serial += 1;
    this.submits += 1;
  }

  /** Reads `bytes` (a multiple of 4) of a buffer, after all work recorded so far. */
  async read(block: Block, offset: number, bytes: number): Promise<ArrayBuffer> {
    this.throwFailure("read");
    if (bytes === 0) return new ArrayBuffer(0);
    // Small staging buffers are kept for the next read, large ones would double what a model takes.
    const isKept = bytes <= KEPT_STAGING_BYTES;
    const size = isKept ? 2 ** Math.ceil(Math.log2(Math.max(bytes, 256))) : bytes;
    const target = this.staging.get(size)?.pop() ?? this.createStaging(size);
    const encoder = this.openEncoder();
    encoder.copyBufferToBuffer(block.buffer, offset, target, 0, bytes);
    this.flush();
    try {
      await patiently(target.mapAsync(1, 0, bytes), this.naps);
    } catch (error) {
      target.destroy();
      await this.settle("read");
      throw new DeviceError(`read: the GPU did not answer. ${(error as Error).message}`);
    }
    this.idle = true;
    const copy = target.getMappedRange(0, bytes).slice(0);
    target.unmap();
    const list = this.staging.get(size);
    if (!isKept || this.closed) target.destroy();
    else if (list) list.push(target);
    else this.staging.set(size, [target]);
    this.throwFailure("read");
    return copy;
  }

  /** Resolves when everything recorded so far has run; rejects with what went wrong on the way. */
  async sync(): Promise<void> {
    this.flush();
    try {
      await patiently(this.device.queue.onSubmittedWorkDone(), this.naps);
    } catch (error) {
      await this.settle("sync");
      throw new DeviceError(`sync: the GPU did not answer. ${(error as Error).message}`);
    }
    this.idle = true;
    this.throwFailure("sync");
  }

  /** Throws, once, the first error that the device reported since the last look; a loss, always, as `op`'s. */
  throwFailure(op: string): void {
    const { failure, lossCause } = this;
    this.failure = null;
    if (failure) throw failure;
    if (lossCause === null) return;
    throw new DeviceError({
      op,
      arg: "the device",
      expected: "there",
      got: `its loss: ${lossCause}`,
      hint: `Recent operations: ${this.recentLabels()}. Call gpu.dispose(), then init() again.`,
    });
  }

  destroy(pool: Pool): void {
    this.closed = true;
    this.lossCause = "it was disposed of";
    this.flush();
    pool.trim();
    for (const list of this.staging.values()) for (const buffer of list) buffer.destroy();
    this.paramBuffer?.destroy();
  }

  /** Lets the news of a lost device arrive, which explain why a promise of the GPU was rejected. */
  private async settle(op: string): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve));
    this.throwFailure(op);
  }

  private fail(message: string): void {
    this.failure ??= new DeviceError({
      op: culprit(message),
      got: "an error from the device",
      hint: `${message.trim()} (recent operations: ${this.recentLabels()})`,
    });
  }

  private recentLabels(): string {
    return [...new Set(this.recent)].join(", ") || "none";
  }

  private openEncoder(): GPUCommandEncoder {
    this.closePass();
    this.encoder ??= this.device.createCommandEncoder({ label: "lowrank" });
    return this.encoder;
  }

  private openPass(label: string): GPUComputePassEncoder {
    if (this.pass) return this.pass;
    this.encoder ??= this.device.createCommandEncoder({ label: "lowrank" });
    const timestampWrites = this.profiler?.next(label);
    this.pass = this.encoder.beginComputePass({
      label,
      ...(timestampWrites ? { timestampWrites } : {}),
    });
    return this.pass;
  }

  private closePass(): void {
    this.pass?.end();
    this.pass = null;
  }

  private setParams(pass: GPUComputePassEncoder, params: Uint32Array<ArrayBuffer>): void {
    if (this.immediates) {
      pass.setImmediates(0, params);
      return;
    }
    const offset = this.paramSlot * PARAM_SLOT_BYTES;
    this.paramData.set(new Uint8Array(params.buffer, params.byteOffset, params.byteLength), offset);
    pass.setBindGroup(1, this.paramGroup, [offset]);
    this.paramSlot += 1;
    // A slot must not be rewritten before its submit, so a full buffer ends the encoder.
    if (this.paramSlot === PARAM_SLOTS) this.inEncoder = DISPATCHES_PER_SUBMIT;
  }

  private createParams(): GPUBindGroupLayout {
    const layout = this.device.createBindGroupLayout({
      label: "params",
      entries: [{ binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } }],
    });
    const size = PARAM_SLOTS * PARAM_SLOT_BYTES;
    this.paramBuffer = this.device.createBuffer({ label: "params", size, usage: UNIFORM_COPY_DST });
    this.paramGroup = this.device.createBindGroup({
      label: "params",
      layout,
      entries: [{ binding: 0, resource: { buffer: this.paramBuffer, size: 64 } }],
    });
    return layout;
  }

  private createStaging(size: number): GPUBuffer {
    return this.device.createBuffer({ label: "read", size, usage: MAP_READ_COPY_DST });
  }
}

/**
 * The op that an error of the device is about. Dawn quotes the labels of all that took part: the pipeline
 * or the module has the name of the op that failed, a buffer that of the op which made it.
 */
function culprit(message: string): string {
  const quoted = [...message.matchAll(/\[(\w+)[\w ]* "+([^"]+)"+\]/g)];
  const labels = quoted.filter(([, , label]) => label !== "lowrank");
  const byKind = (kind: RegExp) => labels.find(([, type]) => kind.test(type!));
  const found = byKind(/Pipeline/) ?? byKind(/PassEncoder|ShaderModule/) ?? labels[0];
  return found?.[2] ?? "gpu";
}
