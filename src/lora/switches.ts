// Which adapters take part: one object for a model, which all of its adapted layers look at.
import type { RandomState } from "../tensor/philox.ts";

export interface Switches {
  /** The adapters whose updates are added. */
  active: readonly string[];
  /** Off: the model computes what its base computes. */
  enabled: boolean;
  /** The adapters of each sequence of a batch, in the place of `active`. */
  rows: readonly (readonly string[])[] | null;
  /** Where the random numbers of each adapter go on that is trained beside others. */
  readonly streams: Map<string, RandomState>;
}
