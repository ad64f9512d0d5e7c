// Buffers: allocation by size class, reuse, a budget, and the account of what they are for.
import { LimitError, ValueError } from "./errors.ts";
import {
  formatBytes,
  formatHolder,
  holdersOf,
  Ledger,
  MEMORY_CATEGORIES,
  type MemoryCategory,
  type MemoryReport,
  type Rise,
} from "./memory.ts";

/** One GPU buffer, owned by the pool. */
export interface Block {
  readonly id: number;
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  /** Serial of the encoder that last touched it. */
  lastUse: number;
  /** Which request holds it, counted from 1; 0 while it is free, −1 once it was destroyed. */
  tenant: number;
  /** The op that asked for it. */
  op: string;
  category: MemoryCategory;
  /** How many times the graph keeps it for backward. */
  keepers: number;
}

/** Where parts of buffers begin, and sizes of buffers end. */
const STEP = 256;

/** Most bytes that a device binds at once. */
export function largestBinding(limits: GPUSupportedLimits): number {
  return Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
}

/** Rounds a request up so that at most an eighth of a buffer is waste, in steps of 256 bytes. */
function sizeClass(bytes: number): number {
  const octave = 2 ** Math.floor(Math.log2(Math.max(bytes, 1)));
  const step = Math.max(STEP, octave / 8);
  return Math.max(STEP, Math.ceil(bytes / step) * step);
}

/** Free buffers up to this many bytes are never given back for being many. */
const KEPT_FREE_BYTES = 64 * 2 ** 20;
const USAGE = 0x04 | 0x08 | 0x80; // COPY_SRC | COPY_DST | STORAGE

/** Throws ValueError unless a budget is a positive number or null. */
export function checkBudget(op: string, arg: string, budget: number | null): void {
  if (budget === null || budget > 0) return;
  const expected = "a positive number of bytes, or null";
  throw new ValueError({ op, arg, expected, got: `${budget}` });
}

/** Puts a block in its place among free ones, which the ids order from high to low. */
function insert(list: Block[], block: Block): void {
  let [from, to] = [0, list.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (list[middle]!.id > block.id) from = middle + 1;
    else to = middle;
  }
  list.splice(from, 0, block);
}

/** Hands out storage buffers and takes them back. A freed buffer serves the next request of its size. */
export class Pool {
  bytesReserved = 0;
  buffersReserved = 0;
  /** Requests served so far: the highest tenant. */
  tenants = 0;
  private nextId = 1;
  private budget: number | null = null;
  /** The most that was ever in use, whatever `resetPeak()` forgot. */
  private mostLive = 0;
  private readonly ledger = new Ledger();
  private readonly inUse = new Set<Block>();
  /** By size, the oldest last: it is taken first, so that equal steps get equal buffers, and known bind groups. */
  private readonly free = new Map<number, Block[]>();

  constructor(
    private readonly device: GPUDevice,
    /** Called before buffers are destroyed, so that pending work that names them is submitted. */
    private readonly beforeDestroy: () => void,
    /** Most bytes that one binding can hold. */
    readonly bindingLimit = largestBinding(device.limits),
  ) {}

  /** Most bytes that a buffer can hold, of which a binding sees a part. */
  get bufferLimit(): number {
    return Math.floor(this.device.limits.maxBufferSize / STEP) * STEP;
  }

  get bytesLive(): number {
    return this.ledger.total;
  }

  get bytesPeak(): number {
    return this.ledger.totalPeak;
  }

  get buffersLive(): number {
    return this.inUse.size;
  }

  /**
   * A buffer of at least `bytes`, with arbitrary contents.
   * @param most  how many bytes it may have: what a binding holds, or `bufferLimit`
   * @throws LimitError past the device's limits or the budget; nothing was allocated then
   */
  acquire(op: string, bytes: number, most = this.bindingLimit): Block {
    this.check(op, bytes, most);
    const size = Math.min(sizeClass(bytes), this.bufferLimit);
    const block = this.free.get(size)?.pop() ?? this.create(op, size);
    this.hold(op, block);
    return block;
  }

  /** Says what a buffer in use is for. */
  assign(block: Block, category: MemoryCategory): void {
    this.ledger.move(block.category, category, block.bytes);
    block.category = category;
  }

  /** Counts a buffer among the activations as long as the graph keeps it, unless it has a purpose of its own. */
  keep(block: Block): void {
    block.keepers += 1;
    if (block.category === "workspace") this.assign(block, "activations");
  }

  /** Undoes one `keep`. */
  unkeep(block: Block): void {
    block.keepers -= 1;
    if (block.keepers === 0 && block.category === "activations") this.assign(block, "workspace");
  }

  /** Who uses the memory, with the `most` largest holders. */
  report(most = 5): MemoryReport {
    const { bytesReserved, budget } = this;
    const largest = holdersOf(this.inUse).slice(0, most);
    return { ...this.ledger.use(), bytesReserved, budget, largest };
  }

  /**
   * Limits the bytes that may be held from the driver, or lifts the limit with null.
   * @throws ValueError unless it is a positive number, LimitError where more is in use already
   */
  setBudget(budget: number | null): void {
    const op = "setMemoryBudget";
    checkBudget(op, "bytes", budget);
    if (budget !== null && this.bytesReserved > budget) {
      this.trim();
      if (this.bytesReserved > budget) throw this.overBudget(op, "bytes", budget);
    }
    this.budget = budget;
  }

  /** Throws LimitError where one binding, or what else may hold `most` bytes, could not hold `bytes`. */
  check(op: string, bytes: number, most = this.bindingLimit): void {
    if (bytes <= most) return;
    throw new LimitError({
      op,
      arg: "the tensor",
      expected: `at most ${most} bytes on this device`,
      got: `${bytes} bytes`,
      hint: "Split it, or store it as f16.",
    });
  }

  release(block: Block): void {
    block.tenant = 0;
    this.inUse.delete(block);
    this.ledger.remove(block.category, block.bytes);
    const list = this.free.get(block.bytes);
    if (list) insert(list, block);
    else this.free.set(block.bytes, [block]);
  }

  /** Takes free blocks out of circulation for `op`: they are in use until `release()`. */
  withdraw(op: string, blocks: Iterable<Block>): void {
    for (const block of blocks) {
      const list = this.free.get(block.bytes)!;
      list.splice(list.indexOf(block), 1);
      this.hold(op, block);
    }
  }

  /** Runs a function and says by how much the memory in use rose meanwhile, at most. */
  measureRise<T>(fn: () => T): { result: T; rise: Rise } {
    return this.ledger.measureRise(fn);
  }

  /** Counts a rise again: that of a replay, which uses memory without asking for it. */
  noteRise(rise: Rise): void {
    this.ledger.noteRise(rise);
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
    this.ledger.resetPeak();
  }

  private hold(op: string, block: Block): void {
    block.tenant = ++this.tenants;
    block.op = op;
    block.category = "workspace";
    this.inUse.add(block);
    this.ledger.add("workspace", block.bytes);
    if (this.bytesLive > this.mostLive) this.mostLive = this.bytesLive;
  }

  private create(op: string, size: number): Block {
    this.makeRoom(op, size);
    const buffer = this.device.createBuffer({ label: op, size, usage: USAGE });
    this.bytesReserved += size;
    this.buffersReserved += 1;
    const id = this.nextId++;
    return {
      id,
      buffer,
      bytes: size,
      lastUse: 0,
      op,
      category: "workspace",
      keepers: 0,
      tenant: 0,
    };
  }

  /** Gives free buffers back before they crowd out new ones: by the budget, or by what was ever needed. */
  private makeRoom(op: string, size: number): void {
    const needed = this.bytesReserved + size;
    const { budget } = this;
    if (needed > (budget ?? Infinity) || needed > 2 * this.mostLive + KEPT_FREE_BYTES) this.trim();
    if (budget === null || this.bytesReserved + size <= budget) return;
    throw this.overBudget(op, `${formatBytes(size)} more`, budget);
  }

  private overBudget(op: string, arg: string, budget: number): LimitError {
    const { categories, total, largest } = this.report();
    const parts = MEMORY_CATEGORIES.filter((c) => categories[c].live > 0).map(
      (c) => `${c} ${formatBytes(categories[c].live)}`,
    );
    return new LimitError({
      op,
      arg,
      expected: `within the memory budget of ${formatBytes(budget)}`,
      got: `${formatBytes(total.live)} in use: ${parts.join(", ") || "nothing"}`,
      hint:
        `Largest: ${largest.map(formatHolder).join(", ") || "none"}. ` +
        "Free tensors, make the batch smaller or use checkpoint(), or raise it: gpu().setMemoryBudget(bytes).",
    });
  }
}
