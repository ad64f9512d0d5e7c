// GPU time per dispatch: one timestamped pass each, read back at the end.

const CAPACITY = 2048; // passes; a query set holds at most 4,096 timestamps
const QUERY_RESOLVE_COPY_SRC = 0x0200 | 0x04;
const MAP_READ_COPY_DST = 0x01 | 0x08;

/** Time that the dispatches of one label took on the GPU. */
export interface OpTime {
  label: string;
  calls: number;
  gpuTimeMs: number;
}

export class Profiler {
  private readonly labels: string[] = [];
  private readonly times = new Map<string, OpTime>();
  private readonly querySet: GPUQuerySet;
  private readonly resolved: GPUBuffer;
  private readonly staging: GPUBuffer;
  private resolvedPasses = 0;

  constructor(device: GPUDevice) {
    const size = CAPACITY * 16;
    this.querySet = device.createQuerySet({ type: "timestamp", count: CAPACITY * 2 });
    this.resolved = device.createBuffer({ size, usage: QUERY_RESOLVE_COPY_SRC });
    this.staging = device.createBuffer({ size, usage: MAP_READ_COPY_DST });
  }

  /** Timestamps for the next pass, or nothing once the query set is full. */
  next(label: string): GPUComputePassTimestampWrites | undefined {
    const index = this.labels.length;
    if (index >= CAPACITY) return undefined;
    this.labels.push(label);
    return {
      querySet: this.querySet,
      beginningOfPassWriteIndex: 2 * index,
      endOfPassWriteIndex: 2 * index + 1,
    };
  }

  /** Called before each submit: resolves the passes recorded since the last one. */
  resolve(encoder: GPUCommandEncoder): void {
    const first = this.resolvedPasses;
    const count = this.labels.length - first;
    if (count === 0) return;
    // Destination offsets of a resolve must be multiples of 256, so each resolve covers all so far.
    encoder.resolveQuerySet(this.querySet, 0, 2 * (first + count), this.resolved, 0);
    this.resolvedPasses += count;
  }

  /** Times by label, longest first. Call it once, after the stream was flushed. */
  async finish(device: GPUDevice): Promise<OpTime[]> {
    const bytes = this.labels.length * 16;
    if (bytes > 0) {
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(this.resolved, 0, this.staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      await this.staging.mapAsync(1, 0, bytes);
      const ticks = new BigUint64Array(this.staging.getMappedRange(0, bytes).slice(0));
      this.labels.forEach((label, i) => {
        this.add(label, Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e6);
      });
    }
    for (const resource of [this.querySet, this.resolved, this.staging]) resource.destroy();
    return [...this.times.values()].sort((a, b) => b.gpuTimeMs - a.gpuTimeMs);
  }

  private add(label: string, ms: number): void {
    const entry = this.times.get(label) ?? { label, calls: 0, gpuTimeMs: 0 };
    entry.calls += 1;
    entry.gpuTimeMs += Math.max(ms, 0);
    this.times.set(label, entry);
  }
}
