// Parameters for devices without immediates: slots of one uniform buffer, written once per submit.

const SLOTS = 256;
const SLOT_BYTES = 256; // dynamic offsets are multiples of it
const PARAM_BYTES = 64;
const UNIFORM_COPY_DST = 0x40 | 0x08;

export class ParamRing {
  readonly layout: GPUBindGroupLayout;
  private readonly buffer: GPUBuffer;
  private readonly group: GPUBindGroup;
  private readonly data = new Uint8Array(SLOTS * SLOT_BYTES);
  private used = 0;

  constructor(private readonly device: GPUDevice) {
    const label = "params";
    this.layout = device.createBindGroupLayout({
      label,
      entries: [{ binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } }],
    });
    this.buffer = device.createBuffer({ label, size: this.data.length, usage: UNIFORM_COPY_DST });
    this.group = device.createBindGroup({
      label,
      layout: this.layout,
      entries: [{ binding: 0, resource: { buffer: this.buffer, size: PARAM_BYTES } }],
    });
  }

  /** A slot must not be rewritten before its submit: when the ring is full, submit. */
  get full(): boolean {
    return this.used === SLOTS;
  }

  /** Gives the next dispatch of a pass its parameters. */
  set(pass: GPUComputePassEncoder, params: ArrayBuffer): void {
    const offset = this.used * SLOT_BYTES;
    this.data.set(new Uint8Array(params), offset);
    pass.setBindGroup(1, this.group, [offset]);
    this.used += 1;
  }

  /** Writes the slots in use; to be called right before their submit. */
  write(): void {
    if (this.used === 0) return;
    this.device.queue.writeBuffer(this.buffer, 0, this.data.subarray(0, this.used * SLOT_BYTES));
    this.used = 0;
  }

  destroy(): void {
    this.buffer.destroy();
  }
}
