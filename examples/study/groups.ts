// What tables and pictures show side by side: a title, and the name that the runs of all seeds share.
import type { Result } from "./result.ts";

export type Results = ReadonlyMap<string, Result>;
export type Group = readonly (readonly [title: string, name: string])[];

const full = ["full", "main/far-full"] as const;

export const RANKS: Group = [
  ["r 1", "rank/1"],
  ["r 4", "rank/4"],
  ["r 8", "main/far-lora"],
  ["r 16", "rank/16"],
  ["r 64", "rank/64"],
  ["r 64, a third of the rate", "rank/64-slow"],
  full,
];

export const TARGETS: Group = [
  ["q, v", "targets/qv"],
  ["attention", "targets/attention"],
  ["attention, r 19", "targets/attention-wide"],
  ["MLP", "targets/mlp"],
  ["all linear", "main/far-lora"],
];

export const CLOSING: Group = [
  ["LoRA r 8", "main/far-lora"],
  ["and embedding and head trained", "close/embedding"],
  ["r 64, a third of the rate", "rank/64-slow"],
  ["r 8, three times as long", "close/long"],
  full,
];

export const METHODS: Group = [
  ["LoRA", "main/far-lora"],
  ["DoRA", "methods/dora"],
  ["LoRA+", "methods/lora+"],
];

/** The runs of a name, one for each seed. */
export function seedsOf(results: Results, name: string): Result[] {
  return [...results].filter(([id]) => id.replace(/-\d+$/, "") === name).map(([, run]) => run);
}
