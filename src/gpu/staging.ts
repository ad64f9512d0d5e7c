// Buffers that results are read back through. Small ones are kept for the next read; large ones are
// not, for they would double what a model takes.

const MAP_READ_COPY_DST = 0x01 | 0x08;
const KEPT_BYTES = 4 * 2 ** 20;

export class Staging {
  private readonly free = new Map<number, GPUBuffer[]>();
  private closed = false;

  constructor(private readonly device: GPUDevice) {}

  /** A buffer of at least `bytes`. */
  take(bytes: number): GPUBuffer {
    const size = bytes <= KEPT_BYTES ? 2 ** Math.ceil(Math.log2(Math.max(bytes, 256))) : bytes;
    const kept = this.free.get(size)?.pop();
    return kept ?? this.device.createBuffer({ label: "read", size, usage: MAP_READ_COPY_DST });
  }

  /** Takes it back, unmapped. */
  give(buffer: GPUBuffer): void {
    const { size } = buffer;
    if (size > KEPT_BYTES || this.closed) {
      buffer.destroy();
      return;
    }
    const list = this.free.get(size);
    if (list) list.push(buffer);
    else this.free.set(size, [buffer]);
  }

  destroy(): void {
    this.closed = true;
    for (const list of this.free.values()) for (const buffer of list) buffer.destroy();
    this.free.clear();
  }
}
