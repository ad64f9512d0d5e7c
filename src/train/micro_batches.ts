// MicroBatches: the rows of a step on the device, of one run or of several side by side.
import { ValueError } from "../gpu/errors.ts";
import { ones, zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { countedTargets, type Rows } from "./rows.ts";

export interface MicroBatch {
  /** [runs · batch, length], the rows of one run after those of the other. */
  ids: Tensor;
  targets: Tensor;
  /** Each run's share of its step's counted targets, []. */
  shares: Tensor[];
  /** Where the texts of packed rows begin. */
  starts?: Tensor;
}

export class MicroBatches implements Disposable {
  readonly list: MicroBatch[];
  private isPacked: boolean | null = null;

  constructor(
    private readonly runs: number,
    private readonly sizes: { batch: number; accumulate: number; length: number },
  ) {
    const shape = [runs * sizes.batch, sizes.length];
    this.list = Array.from({ length: sizes.accumulate }, () => ({
      ids: zeros(shape, "i32").persist(),
      targets: zeros(shape, "i32").persist(),
      shares: Array.from({ length: runs }, () => ones([]).persist()),
    }));
  }

  /**
   * Puts the rows of a step in place.
   * @param rows  accumulate · batch rows of each run
   * @throws ValueError where texts begin within rows in some steps and in others not
   */
  fill(rows: readonly Rows[]): void {
    const isPacked = rows.some(({ starts }) => starts !== undefined);
    this.isPacked ??= isPacked;
    if (this.isPacked !== isPacked) {
      const got = isPacked ? "some after steps without" : "none";
      const facts = { arg: "starts", expected: "given in every step or in none", got };
      throw new ValueError({ op: "fit", ...facts });
    }
    const n = this.sizes.batch * this.sizes.length;
    for (const [i, micro] of this.list.entries()) {
      const [from, to] = [i * n, (i + 1) * n];
      micro.ids.set(this.joined(rows.map(({ ids }) => ids.subarray(from, to))));
      micro.targets.set(this.joined(rows.map(({ targets }) => targets.subarray(from, to))));
      if (isPacked) {
        micro.starts ??= zeros(micro.ids.shape, "i32").persist();
        micro.starts.set(this.joined(rows.map(({ starts }) => starts!.subarray(from, to))));
      }
      if (this.list.length === 1) continue;
      for (const [run, { targets }] of rows.entries()) {
        const part = countedTargets(targets.subarray(from, to));
        micro.shares[run]!.set([part / Math.max(1, countedTargets(targets))]);
      }
    }
  }

  dispose(): void {
    for (const { ids, targets, shares, starts } of this.list) {
      for (const t of [ids, targets, ...shares, ...(starts ? [starts] : [])]) t.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private joined(parts: readonly Int32Array[]): Int32Array {
    if (this.runs === 1) return parts[0]!;
    const all = new Int32Array(this.runs * parts[0]!.length);
    for (const [i, part] of parts.entries()) all.set(part, i * part.length);
    return all;
  }
}
