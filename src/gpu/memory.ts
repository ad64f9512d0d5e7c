// The account of GPU memory: bytes in use by what they are for, and where that was most.

/**
 * What a buffer is for. `base`: the model's own weights. `adapters`: the weights that are trained beside a
 * frozen base. `gradients`: those of weights. `optimiser`: its state. `activations`: what the graph keeps
 * for backward. `workspace`: everything else, such as results on their way and caches.
 */
export type MemoryCategory = (typeof MEMORY_CATEGORIES)[number];

export const MEMORY_CATEGORIES = [
  "base",
  "adapters",
  "gradients",
  "optimiser",
  "activations",
  "workspace",
] as const;

type Bytes = Record<MemoryCategory, number>;

/** How far the total and each category rose above where they had been, and each when the total was highest. */
export interface Rise {
  total: number;
  peak: Readonly<Bytes>;
  atPeak: Readonly<Bytes>;
}

/** Bytes of one category. */
interface MemoryUse {
  /** In use now. */
  live: number;
  /** The most that the category had. */
  peak: number;
  /** What it had when the total was highest. */
  atPeak: number;
}

/** Buffers in use that came of the same op and have the same size and category. */
export interface MemoryHolder {
  /** The op that asked for them. */
  op: string;
  category: MemoryCategory;
  buffers: number;
  bytes: number;
}

/** Who uses the memory of the device. Peaks count since the start or the last `resetPeak()`. */
export interface MemoryReport {
  categories: Record<MemoryCategory, MemoryUse>;
  total: MemoryUse;
  /** Bytes held from the driver, free buffers included. */
  bytesReserved: number;
  /** The most that may be held, or null. */
  budget: number | null;
  /** The largest holders now, largest first. */
  largest: MemoryHolder[];
}

function none(): Bytes {
  return Object.fromEntries(MEMORY_CATEGORIES.map((c) => [c, 0])) as Bytes;
}

const minus = (a: Bytes, b: Bytes) => combine(a, b, -1);
const plus = (a: Bytes, b: Bytes) => combine(a, b, 1);

function combine(a: Readonly<Bytes>, b: Readonly<Bytes>, sign: 1 | -1): Bytes {
  const sum = { ...a };
  for (const c of MEMORY_CATEGORIES) sum[c] += sign * b[c];
  return sum;
}

/** Counts bytes by category. The total's peak comes with what each category had at that moment. */
export class Ledger {
  total = 0;
  totalPeak = 0;
  private readonly live = none();
  private readonly peak = none();
  private readonly atPeak = none();

  add(category: MemoryCategory, bytes: number): void {
    this.total += bytes;
    this.count(category, bytes);
    if (this.total <= this.totalPeak) return;
    this.totalPeak = this.total;
    Object.assign(this.atPeak, this.live);
  }

  remove(category: MemoryCategory, bytes: number): void {
    this.total -= bytes;
    this.live[category] -= bytes;
  }

  move(from: MemoryCategory, to: MemoryCategory, bytes: number): void {
    this.live[from] -= bytes;
    this.count(to, bytes);
  }

  resetPeak(): void {
    this.totalPeak = this.total;
    Object.assign(this.peak, this.live);
    Object.assign(this.atPeak, this.live);
  }

  /** Runs a function and says how far the account rose meanwhile, at most. */
  measureRise<T>(fn: () => T): { result: T; rise: Rise } {
    const before: Rise = {
      total: this.totalPeak,
      peak: { ...this.peak },
      atPeak: { ...this.atPeak },
    };
    const [total, live] = [this.total, { ...this.live }];
    this.resetPeak();
    try {
      const result = fn();
      const [peak, atPeak] = [minus(this.peak, live), minus(this.atPeak, live)];
      return { result, rise: { total: this.totalPeak - total, peak, atPeak } };
    } finally {
      this.raise(before);
    }
  }

  /** Counts such a rise again, from where the account is now. */
  noteRise({ total, peak, atPeak }: Rise): void {
    const { live } = this;
    this.raise({ total: this.total + total, peak: plus(live, peak), atPeak: plus(live, atPeak) });
  }

  use(): Pick<MemoryReport, "categories" | "total"> {
    const of = (c: MemoryCategory): MemoryUse => ({
      live: this.live[c],
      peak: this.peak[c],
      atPeak: this.atPeak[c],
    });
    return {
      categories: Object.fromEntries(
        MEMORY_CATEGORIES.map((c) => [c, of(c)]),
      ) as MemoryReport["categories"],
      total: { live: this.total, peak: this.totalPeak, atPeak: this.totalPeak },
    };
  }

  /** Peaks become at least these. */
  private raise({ total, peak, atPeak }: Rise): void {
    for (const c of MEMORY_CATEGORIES) this.peak[c] = Math.max(this.peak[c], peak[c]);
    if (total <= this.totalPeak) return;
    this.totalPeak = total;
    Object.assign(this.atPeak, atPeak);
  }

  private count(category: MemoryCategory, bytes: number): void {
    const now = this.live[category] + bytes;
    this.live[category] = now;
    if (now > this.peak[category]) this.peak[category] = now;
  }
}

/** Buffers in use, gathered by op, size and category; the largest first. */
export function holdersOf(
  blocks: Iterable<{ op: string; category: MemoryCategory; bytes: number }>,
): MemoryHolder[] {
  const holders = new Map<string, MemoryHolder>();
  for (const { op, category, bytes } of blocks) {
    const key = `${op} ${category} ${bytes}`;
    const holder = holders.get(key) ?? { op, category, buffers: 0, bytes: 0 };
    holder.buffers += 1;
    holder.bytes += bytes;
    holders.set(key, holder);
  }
  return [...holders.values()].sort((a, b) => b.bytes - a.bytes);
}

/** Bytes in the unit that fits: `13.4 MB`. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  const at = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const value = bytes / 1000 ** at;
  return `${at === 0 ? value : value.toPrecision(value < 1000 ? 3 : 4)} ${units[at]}`;
}

/** One holder: `4 × gelu 16.8 MB (activations)`. */
export function formatHolder({ op, category, buffers, bytes }: MemoryHolder): string {
  const count = buffers === 1 ? "" : `${buffers} × `;
  return `${count}${op} ${formatBytes(bytes)} (${category})`;
}

/** A report as a table: bytes by category now, at their highest, and when the total was highest. */
export function formatMemory(report: MemoryReport): string {
  const row = (name: string, cells: readonly string[]) =>
    `${name.padEnd(14)}${cells.map((cell) => cell.padStart(12)).join("")}`;
  const cells = ({ live, peak, atPeak }: MemoryUse) => [live, peak, atPeak].map(formatBytes);
  const { categories, total, bytesReserved, budget, largest } = report;
  return [
    row("GPU memory", ["now", "peak", "at the peak"]),
    ...MEMORY_CATEGORIES.map((c) => row(c, cells(categories[c]))),
    row("total", cells(total)),
    row("held", [formatBytes(bytesReserved)]),
    ...(budget === null ? [] : [row("budget", [formatBytes(budget)])]),
    ...(largest.length === 0 ? [] : [`largest: ${largest.map(formatHolder).join(", ")}`]),
  ].join("\n");
}
