// What a bench file needs: bench(op, cases). `npm run bench -- <filter>` runs them.

/** A case that is ready to run. */
export interface Ready {
  /** The work to time. Runs in a scope of its own; what it makes is freed. */
  run: () => unknown;
  /** Floating-point operations of one run; a multiply-add counts two. */
  flops?: number;
  /** Bytes that one run must read and write at the least. */
  bytes?: number;
  /** Throws where the result is wrong. Runs before the timing. Default: what `run` gives must be finite, not all 0. */
  verify?: () => Promise<void>;
}

export interface BenchCase {
  /** Such as `f32 [4096, 1024] forward`. */
  name: string;
  /** Makes the inputs. They live until the case ends. */
  setup: () => Ready | Promise<Ready>;
  /** The case of the same op that its time is told as a multiple of: the two take turns. */
  beside?: string;
}

export interface BenchRow extends BenchCase {
  op: string;
}

const registered: BenchRow[] = [];

/** Registers the cases of one op. */
export function bench(op: string, cases: readonly BenchCase[]): void {
  for (const row of cases) registered.push({ op, ...row });
}

/** The case that this one's time is told as a multiple of, if there is one. */
export function besideOf({ op, name, beside }: BenchRow): BenchRow | null {
  if (beside === undefined) return null;
  const found = registered.find((row) => row.op === op && row.name === beside);
  if (!found)
    throw new Error(`bench: ${op} ${name} stands beside "${beside}", which there is not.`);
  return found;
}

/** The registered cases whose `op name` holds every word of the filter. */
export function benchRows(filter: string): BenchRow[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return registered.filter(({ op, name }) => {
    const text = `${op} ${name}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
