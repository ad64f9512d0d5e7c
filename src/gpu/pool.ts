// Buffers: allocation by size class, reuse, and the account of live and peak bytes.
import { LimitError } from "./errors.ts";

/** One GPU buffer, owned by the pool. */
export interface Block {
  readonly id: number;
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  /** Serial of the encoder that last touched it. */
  lastUse: number;
  /** Which request holds it, counted from 1; 0 while it is free, −1 once it was destroyed. */
  tenant: number;
}

/** Rounds a request up so that at most an eighth of a buffer is waste, in steps of 256 bytes. */
export function sizeClass(bytes: number): number {
  const octave = 2 ** Math.floor(Math.log2(Math.max(bytes, 1)));
  const step = Math.max(256, octave / 8);
  return Math.max(256, Math.ceil(bytes / step) * step);
}

const USAGE = 0x04 | 0x08 | 0x80; // COPY_SRC | COPY_DST | STORAGE

/** Hands out storage buffers and takes them back. A freed buffer serves the next request of its size. */
export class Pool {
  bytesLive = 0;
  bytesPeak = 0;
  bytesReserved = 0;
  buffersLive = 0;
  buffersReserved = 0;
  /** Requests served so far: the highest tenant. */
  tenants = 0;
  private nextId = 1;
  /** Most bytes that one binding can hold. */
  private readonly limit: number;
  private readonly free = new Map<number, Block[]>();

  constructor(
    private readonly device: GPUDevice,
    /** Called before buffers are destroyed, so that pending work that names them is submitted. */
    private readonly beforeDestroy: () => void,
  ) {
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    this.limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  }

  /** A buffer of at least `bytes`, with arbitrary contents. Throws LimitError past the device's limits. */
  acquire(op: string, bytes: number): Block {
    this.check(op, bytes);
    const size = sizeClass(bytes);
    const block = this.free.get(size)?.pop() ?? this.create(op, size);
    block.tenant = ++this.tenants;
    this.bytesLive += size;
    this.buffersLive += 1;
    if (this.bytesLive > this.bytesPeak) this.bytesPeak = this.bytesLive;
    return block;
  }

  /** Throws LimitError where one binding could not hold `bytes`. */
  check(op: string, bytes: number): void {
    if (bytes <= this.limit) return;
    throw new LimitError({
      op,
      arg: "the tensor",
      expected: `at most ${this.limit} bytes on this device`,
      got: `${bytes} bytes`,
      hint: "Split it, or store it as f16.",
    });
  }

  release(block: Block): void {
    block.tenant = 0;
    this.bytesLive -= block.bytes;
    this.buffersLive -= 1;
    const list = this.free.get(block.bytes);
    if (list) list.push(block);
    else this.free.set(block.bytes, [block]);
  }

  /** Destroys all free buffers. */
  trim(): void {
    if (this.buffersReserved === this.buffersLive) return;
    this.beforeDestroy();
    for (const list of this.free.values()) {
      for (const block of list) {
        block.buffer.destroy();
        block.tenant = -1;
        this.bytesReserved -= block.bytes;
        this.buffersReserved -= 1;
      }
    }
    this.free.clear();
  }

  resetPeak(): void {
    this.bytesPeak = this.bytesLive;
  }

  private create(op: string, size: number): Block {
    const buffer = this.device.createBuffer({ label: op, size, usage: USAGE });
    this.bytesReserved += size;
    this.buffersReserved += 1;
    return { id: this.nextId++, buffer, bytes: size, lastUse: 0, tenant: 0 };
  }
}
