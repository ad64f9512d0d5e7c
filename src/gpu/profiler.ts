// GPU time per dispatch: one timestamped pass each, read back at the end.

const PASSES_PER_SET = 2048; // a query set holds at most 4,096 timestamps
const QUERY_RESOLVE_COPY_SRC = 0x0200 | 0x04;
const MAP_READ_COPY_DST = 0x01 | 0x08;

/** Time that the dispatches of one label took on the GPU. */
export interface OpTime {
  label: string;
  calls: number;
  gpuTimeMs: number;
}

/** One query set and the buffers that its timestamps go through. */
interface Part {
  labels: string[];
  resolvedPasses: number;
  querySet: GPUQuerySet;
  resolved: GPUBuffer;
  staging: GPUBuffer;
}

export class Profiler {
  private readonly parts: Part[] = [];

  constructor(private readonly device: GPUDevice) {}

  /** Timestamps for the next pass. */
  next(label: string): GPUComputePassTimestampWrites {
    let part = this.parts.at(-1);
    if (!part || part.labels.length === PASSES_PER_SET) {
      part = this.createPart();
      this.parts.push(part);
    }
    const index = part.labels.push(label) - 1;
    return {
      querySet: part.querySet,
      beginningOfPassWriteIndex: 2 * index,
      endOfPassWriteIndex: 2 * index + 1,
    };
  }

  /** Called before each submit: resolves the passes recorded since the last one. */
  resolve(encoder: GPUCommandEncoder): void {
    for (const part of this.parts) {
      const count = part.labels.length;
      if (part.resolvedPasses === count) continue;
      // Destination offsets of a resolve must be multiples of 256, so each resolve covers all so far.
      encoder.resolveQuerySet(part.querySet, 0, 2 * count, part.resolved, 0);
      part.resolvedPasses = count;
    }
  }

  /** Times by label, longest first. Call it after the stream was flushed. */
  async times(): Promise<OpTime[]> {
    const times = new Map<string, OpTime>();
    for (const part of this.parts) {
      const ticks = await this.read(part);
      part.labels.forEach((label, i) => {
        const entry = times.get(label) ?? { label, calls: 0, gpuTimeMs: 0 };
        entry.calls += 1;
        entry.gpuTimeMs += Math.max(Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e6, 0);
        times.set(label, entry);
      });
    }
    return [...times.values()].sort((a, b) => b.gpuTimeMs - a.gpuTimeMs);
  }

  destroy(): void {
    for (const { querySet, resolved, staging } of this.parts) {
      for (const resource of [querySet, resolved, staging]) resource.destroy();
    }
  }

  private async read({ labels, resolved, staging }: Part): Promise<BigUint64Array> {
    const bytes = labels.length * 16;
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
      labels: [],
      resolvedPasses: 0,
      querySet: device.createQuerySet({ type: "timestamp", count: PASSES_PER_SET * 2 }),
      resolved: device.createBuffer({ size, usage: QUERY_RESOLVE_COPY_SRC }),
      staging: device.createBuffer({ size, usage: MAP_READ_COPY_DST }),
    };
  }
}
