// Modules side by side: several results of one input, such as queries, keys and values.
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** A module that can share the pass over its input with some of those beside it. */
export abstract class SharingModule extends Module {
  /** What each of these modules gives for x, in their order. */
  abstract callBeside(x: Tensor, modules: readonly Module[]): readonly Tensor[];
}

/** What each module gives for x, in their order; in one pass over x where one of them knows how. */
export function callEach(x: Tensor, modules: readonly Module[]): readonly Tensor[] {
  const sharing = modules.find((m) => m instanceof SharingModule);
  return sharing?.callBeside(x, modules) ?? modules.map((m) => m.call(x));
}
