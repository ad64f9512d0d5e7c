// BestWeights: the parameters of the lowest validation loss, on the host.
import type { Tensor } from "../tensor/tensor.ts";
import type { Look } from "./fit_options.ts";

export class BestWeights {
  /** The look that they are of; null before the first. */
  look: Look | null = null;
  /** Bytes of each parameter, in the order of `parameters`. */
  bytes: Uint8Array<ArrayBuffer>[] = [];

  /** @param minDelta  by how much a loss must be lower to replace another */
  constructor(
    private readonly parameters: readonly Tensor[],
    private readonly minDelta: number,
  ) {}

  /** Keeps the parameters as they are now, if the look is the best so far. */
  async offer(look: Look): Promise<boolean> {
    const bound = this.look ? this.look.loss - this.minDelta : Infinity;
    if (!(look.loss < bound)) return false;
    const bytes: Uint8Array<ArrayBuffer>[] = [];
    for (const p of this.parameters) bytes.push(await p.rawBytes());
    this.look = look;
    this.bytes = bytes;
    return true;
  }

  /** Puts them back into the parameters; nothing where there was no look. */
  restore(): void {
    for (const [i, bytes] of this.bytes.entries()) {
      this.parameters[i]!.storage.touch();
      this.parameters[i]!.upload(bytes);
    }
  }
}
