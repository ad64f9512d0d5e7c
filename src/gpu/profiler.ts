// What dispatches do and how long the GPU takes for each: one timestamped pass each, read back at the end.

const PASSES_PER_SET = 2048; // a query set holds at most 4,096 timestamps
const QUERY_RESOLVE_COPY_SRC = 0x0200 | 0x04;
const MAP_READ_COPY_DST = 0x01 | 0x08;

/** What a dispatch computes and moves at the least. */
export interface Work {
  /** Floating-point operations; a multiply-add counts two. */
  flops: number;
  /** Bytes read and written, each once. */
  bytes: number;
}

/** One dispatch that has run. */
export interface TimedPass extends Work {
  label: string;
  /** When it began, counted from the first one; null where the device has no timestamps. */
  beginMs: number | null;
  gpuTimeMs: number | null;
}

interface Pass extends Work {
  label: string;
}

/** One query set and the buffers that its timestamps go through. */
interface Part {
  passes: Pass[];
  resolvedPasses: number;
  querySet: GPUQuerySet;
  resolved: GPUBuffer;
  staging: GPUBuffer;
}

export class Profiler {
  private readonly parts: Part[] = [];
  private readonly untimed: Pass[] = [];

  /** @param timestamps  whether the device has them */
  constructor(
    private readonly device: GPUDevice,
    private readonly timestamps: boolean,
  ) {}

  /** Notes the next pass. Its timestamps, where there are any. */
  next(label: string, work: Work): GPUComputePassTimestampWrites | null {
    const pass = { label, ...work };
    if (!this.timestamps) {
      this.untimed.push(pass);
      return null;
    }
    let part = this.parts.at(-1);
    if (!part || part.passes.length === PASSES_PER_SET) {
      part = this.createPart();
      this.parts.push(part);
    }
    const index = part.passes.push(pass) - 1;
    return {
      querySet: part.querySet,
      beginningOfPassWriteIndex: 2 * index,
      endOfPassWriteIndex: 2 * index + 1,
    };
  }

  /** Called before each submit: resolves the passes recorded since the last one. */
  resolve(encoder: GPUCommandEncoder): void {
    for (const part of this.parts) {
      const count = part.passes.length;
      if (part.resolvedPasses === count) continue;
      // Destination offsets of a resolve must be multiples of 256, so each resolve covers all so far.
      encoder.resolveQuerySet(part.querySet, 0, 2 * count, part.resolved, 0);
      part.resolvedPasses = count;
    }
  }

  /** The passes in their order. Call it after the stream was flushed. */
  async passes(): Promise<TimedPass[]> {
    const passes: TimedPass[] = this.untimed.map((p) => ({ ...p, beginMs: null, gpuTimeMs: null }));
    let origin: bigint | null = null;
    for (const part of this.parts) {
      const ticks = await this.read(part); // nanoseconds
      origin ??= ticks[0]!;
      for (const [i, pass] of part.passes.entries()) {
        const beginMs = Number(ticks[2 * i]! - origin) / 1e6;
        const gpuTimeMs = Math.max(Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e6, 0);
        passes.push({ ...pass, beginMs, gpuTimeMs });
      }
    }
    return passes;
  }

  destroy(): void {
    for (const { querySet, resolved, staging } of this.parts) {
      for (const resource of [querySet, resolved, staging]) resource.destroy();
    }
  }

  private async read({ passes, resolved, staging }: Part): Promise<BigUint64Array> {
    const bytes = passes.length * 16;
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes);
    this.device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1, 0, bytes);
    return new BigUint64Array(staging.getMappedRange(0, bytes).slice(0));
  }

  private createPart(): Part {
    const { device } = this;
    const size = PASSES_PER_SET * 16;
    return {
      passes: [],
      resolvedPasses: 0,
      querySet: device.createQuerySet({ type: "timestamp", count: PASSES_PER_SET * 2 }),
      resolved: device.createBuffer({ size, usage: QUERY_RESOLVE_COPY_SRC }),
      staging: device.createBuffer({ size, usage: MAP_READ_COPY_DST }),
    };
  }
}
