// Property tests: a seed makes a random case, and a failure tells the seed that makes it again.
import { gpuTest, randomValues } from "./gpu.ts";

/** Sizes of axes: mostly small and odd, 1 often, 0 now and then, and neighbours of 4, 8 and 16. */
const SIZES = [0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 13, 16, 17];

/** Random choices that hang on the seed alone (mulberry32). */
export class Draw {
  constructor(private state: number) {}

  private next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from low to high, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)]!;
  }

  shuffle<T>(list: readonly T[]): T[] {
    const left = [...list];
    return list.map(() => left.splice(this.int(0, left.length - 1), 1)[0]!);
  }

  size(): number {
    return this.pick(SIZES);
  }

  /** A shape of low to high axes and at most `most` elements. */
  shape(low = 0, high = 6, most = 1500): number[] {
    const shape: number[] = [];
    let room = most;
    for (let left = this.int(low, high); left > 0; left--) {
      const n = this.pick(SIZES.filter((size) => size <= room));
      shape.push(n);
      room = Math.floor(room / Math.max(n, 1));
    }
    return this.shuffle(shape);
  }

  /** A shape that broadcasts to the given one: axes made 1, leading axes dropped. */
  thinned(shape: readonly number[]): number[] {
    const thin = shape.map((n) => (this.chance(0.35) ? 1 : n));
    return this.chance(0.5) ? thin : thin.slice(this.int(0, thin.length));
  }

  /** Numbers in [-scale, scale], exact in f32. */
  values(n: number, scale = 1): Float64Array {
    return randomValues(n, this.int(1, 2 ** 30), scale);
  }

  /** Numbers with many equals among them. */
  fewValues(n: number): Float64Array {
    return this.values(n, 2).map((v) => Math.round(v) + 0);
  }
}

/**
 * A test of `rounds` random cases. `LOWRANK_SEED=…` begins with another case: the one that a failure
 * named, to see it again, or one that nobody has seen yet.
 */
export function property(
  name: string,
  rounds: number,
  body: (draw: Draw) => Promise<void> | void,
): void {
  const first = Number(process.env.LOWRANK_SEED ?? 1);
  gpuTest(name, async () => {
    if (!Number.isInteger(first)) throw new Error("LOWRANK_SEED must be an integer");
    for (let seed = first; seed < first + rounds; seed++) {
      try {
        await body(new Draw(seed));
      } catch (error) {
        const { message } = error as Error;
        (error as Error).message = `LOWRANK_SEED=${seed} (${name}): ${message}`;
        throw error;
      }
    }
  });
}
