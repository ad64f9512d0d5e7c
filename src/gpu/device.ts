// The machine: finds a device, holds its stream and its buffer pool, and keeps the account.
import { type AdapterClass, answersTo, type FoundAdapter } from "./adapter.ts";
import { DeviceError, ValueError } from "./errors.ts";
import type { MemoryReport } from "./memory.ts";
import { checkBudget, largestBinding, Pool } from "./pool.ts";
import { Profiler, type TimedPass } from "./profiler.ts";
import { Stream } from "./stream.ts";

export interface InitOptions {
  /** `gpu`, `lavapipe`, `swiftshader`, or a part of the adapter's name. Default: `LOWRANK_ADAPTER`. */
  adapter?: string;
  /** Pass parameters as immediates where the device can. Off: through one uniform buffer. */
  immediates?: boolean;
  /** Features not to use even where the adapter has them, such as `subgroups`. */
  without?: readonly string[];
  /** Most bytes of GPU memory that tensors may take: see `Gpu.setMemoryBudget`. Default: no limit. */
  memoryBudget?: number | null;
  /**
   * Most bytes of a buffer that a kernel may see at once, a positive multiple of 256. Default: what the device
   * allows. Lower, it shows what a smaller device would do.
   */
  bindingLimit?: number;
}

export interface GpuStats {
  dispatches: number;
  submits: number;
  /** Bytes of buffers in use now, and the most since the start or the last `resetPeak()`. */
  bytesLive: number;
  bytesPeak: number;
  /** Bytes held from the driver, free buffers included. */
  bytesReserved: number;
  buffersLive: number;
  tensorsLive: number;
}

const WANTED = [
  "shader-f16",
  "subgroups",
  "timestamp-query",
  "chromium-experimental-subgroup-matrix",
] as const;

/** A device and everything that belongs to it. Made by `init()`, one at a time. */
export class Gpu {
  readonly stream: Stream;
  readonly pool: Pool;
  readonly features: ReadonlySet<string>;
  readonly limits: GPUSupportedLimits;
  readonly adapterClass: AdapterClass;
  readonly origin: FoundAdapter["origin"];
  readonly description: string;
  /** What was looked at on the way to this device. */
  readonly tried: readonly string[];
  readonly info: GPUAdapterInfo;
  readonly immediates: boolean;
  /** How many tensors are alive; kept by `src/tensor`. */
  tensorsLive = 0;

  constructor(
    readonly device: GPUDevice,
    found: FoundAdapter,
    options: InitOptions,
  ) {
    this.features = new Set(device.features);
    this.limits = device.limits;
    this.adapterClass = found.adapterClass;
    this.origin = found.origin;
    this.description = found.description;
    this.tried = found.tried;
    this.info = found.adapter.info;
    const canImmediates = "setImmediates" in GPUComputePassEncoder.prototype;
    this.immediates = (options.immediates ?? true) && canImmediates;
    this.stream = new Stream(device, this.immediates, found.adapterClass !== "gpu");
    const largest = largestBinding(device.limits);
    const limit = Math.min(options.bindingLimit ?? largest, largest);
    this.pool = new Pool(device, () => this.stream.flush(), limit);
    if (options.memoryBudget !== undefined) this.pool.setBudget(options.memoryBudget);
  }

  stats(): GpuStats {
    const { bytesLive, bytesPeak, bytesReserved, buffersLive } = this.pool;
    const { dispatches, submits } = this.stream;
    const { tensorsLive } = this;
    return {
      dispatches,
      submits,
      bytesLive,
      bytesPeak,
      bytesReserved,
      buffersLive,
      tensorsLive,
    };
  }

  /** Most bytes of a buffer that a kernel sees at once. */
  get bindingLimit(): number {
    return this.pool.bindingLimit;
  }

  /** Bytes in use by what they are for, now and at their peak; `formatMemory` prints it. */
  memory(): MemoryReport {
    return this.pool.report();
  }

  /**
   * Limits the memory that tensors may take. What would go beyond fails before anything is allocated, with
   * an error that says who uses how much. Buffers for reading results back do not count.
   * @param bytes  the most that may be held from the driver, or null for no limit
   * @throws ValueError unless it is positive, LimitError where more is in use already
   */
  setMemoryBudget(bytes: number | null): void {
    this.pool.setBudget(bytes);
  }

  /** Starts a new measurement of peaks. */
  resetPeak(): void {
    this.pool.resetPeak();
  }

  /** Waits until all work recorded so far has run; throws what went wrong on the way. */
  sync(): Promise<void> {
    return this.stream.sync();
  }

  /**
   * Submits what was recorded and waits until the work of all but the last `rounds` calls has run. A loop that
   * reads nothing queues work as fast as JavaScript makes it, and the queue has no end: call it once a round.
   * @param rounds  how far JavaScript may be ahead of the device, in calls; 0: not at all
   * @throws ValueError unless it is a natural number
   */
  async pace(rounds = 2): Promise<void> {
    if (!Number.isSafeInteger(rounds) || rounds < 0) {
      const facts = { op: "pace", arg: "rounds", expected: "an integer of at least 0" };
      throw new ValueError({ ...facts, got: `${rounds}` });
    }
    await this.stream.pace(rounds);
  }

  /** Whether passes can be timed on the GPU. */
  get hasTimestamps(): boolean {
    return this.features.has("timestamp-query");
  }

  /**
   * Runs `fn` with every dispatch in a pass of its own, timestamped where the device can. `profile` makes
   * a table of it.
   * @throws DeviceError inside of another such call
   */
  async timeline(fn: () => unknown): Promise<{ passes: TimedPass[]; wallTimeMs: number }> {
    if (this.stream.profiler) {
      const facts = { op: "profile", arg: "the call", expected: "outside of another profile" };
      throw new DeviceError({ ...facts, got: "one inside" });
    }
    const profiler = new Profiler(this.device, this.hasTimestamps);
    this.stream.profiler = profiler;
    try {
      await this.stream.sync(); // what was called before is not its work
      const started = performance.now();
      await fn();
      await this.stream.sync();
      const wallTimeMs = performance.now() - started;
      return { passes: await profiler.passes(), wallTimeMs };
    } finally {
      this.stream.flush(); // passes of this profiler that a throw left unsubmitted
      this.stream.profiler = null;
      profiler.destroy();
    }
  }

  /** Frees the device. Tensors made on it can no longer be used. */
  dispose(): void {
    if (current !== this) return;
    current = null;
    this.stream.destroy(this.pool);
    this.device.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

let current: Gpu | null = null;
let starting: Promise<Gpu> | null = null;

/** The device in use. Throws DeviceError before `init()`. */
export function gpu(op = "gpu"): Gpu {
  if (!current) {
    throw new DeviceError({
      op,
      arg: "the device",
      expected: "ready",
      got: "none",
      hint: "Call `await init()` first.",
    });
  }
  return current;
}

/**
 * Finds a device and makes it the one in use: the one asked for, else a real GPU, else an installed
 * software device, else the embedded SwiftShader. Returns the device in use if there is one already.
 * @throws DeviceError listing what was tried, where there is none.
 */
export async function init(options: InitOptions = {}): Promise<Gpu> {
  // Two calls at once: the second waits for the first, then is judged like any later one.
  while (starting) await starting.catch(() => {});
  const { memoryBudget, bindingLimit } = options;
  if (memoryBudget !== undefined) checkBudget("init", "memoryBudget", memoryBudget);
  if (bindingLimit !== undefined) checkBindingLimit(bindingLimit);
  if (!current) {
    starting = start(options);
    try {
      return await starting;
    } finally {
      starting = null;
    }
  }
  const { adapterClass, description } = current;
  if (options.adapter && !answersTo(options.adapter, adapterClass, description)) {
    throw new ValueError({
      op: "init",
      arg: "adapter",
      expected: `the one in use (${adapterClass}: ${description})`,
      got: JSON.stringify(options.adapter),
      hint: "Dispose of the device in use first: `gpu.dispose()`.",
    });
  }
  if (memoryBudget !== undefined) current.setMemoryBudget(memoryBudget);
  return current;
}

function checkBindingLimit(bytes: number): void {
  if (Number.isSafeInteger(bytes) && bytes > 0 && bytes % 256 === 0) return;
  const facts = { op: "init", arg: "bindingLimit", expected: "a positive multiple of 256" };
  throw new ValueError({ ...facts, got: `${bytes}` });
}

async function start(options: InitOptions): Promise<Gpu> {
  const isNode = typeof process !== "undefined" && Boolean(process.versions?.node);
  const { findAdapter } = isNode
    ? await import("./entry.node.ts")
    : await import("./entry.browser.ts");
  const asked = options.adapter ?? (isNode ? process.env.LOWRANK_ADAPTER : undefined);
  const found = await findAdapter(asked || undefined);
  const { adapter } = found;
  const features = WANTED.filter(
    (f) => adapter.features.has(f) && !options.without?.includes(f),
  ) as GPUFeatureName[];
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({
      label: "lowrank",
      requiredFeatures: features,
      requiredLimits: ownLimits(adapter),
    });
  } catch (error) {
    const why = (error as Error).message;
    throw new DeviceError(`init: ${found.description} gave no device: ${why}`);
  }
  current = new Gpu(device, found, options);
  return current;
}

/** The adapter's own limits instead of the defaults; those the binding does not know are left out. */
function ownLimits(adapter: GPUAdapter): Record<string, number> {
  const names = [
    "maxBufferSize",
    "maxStorageBufferBindingSize",
    "maxStorageBuffersPerShaderStage",
    "maxComputeWorkgroupStorageSize",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupSizeX",
    "maxComputeWorkgroupSizeY",
    "maxComputeWorkgroupsPerDimension",
    "maxImmediateSize",
  ];
  const limits: Record<string, number> = {};
  for (const name of names) {
    const value = (adapter.limits as unknown as Record<string, number | undefined>)[name];
    if (value !== undefined) limits[name] = value;
  }
  return limits;
}
