// Which adapters take part: one object for a model, which all of its adapted layers look at.

export interface Switches {
  /** The adapters whose updates are added. */
  active: readonly string[];
  /** Off: the model computes what its base computes. */
  enabled: boolean;
}
