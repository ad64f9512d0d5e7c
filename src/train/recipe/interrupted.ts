// Interrupted: a run was asked to end before there was anything to keep.
import { LowrankError } from "../../gpu/errors.ts";

export class Interrupted extends LowrankError {
  constructor() {
    super("train: interrupted before the first step. There is nothing to save yet.");
  }
}
