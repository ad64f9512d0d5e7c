// Trials of a sweep in their order: how good each is, how it is coloured and named.
import { loss, plain } from "../format.ts";
import type { Sweep, Trial } from "../read_sweep.ts";
import type { SettingAxis } from "./axis.ts";

/** A trial that came to an objective. */
export type Scored = Trial & { objective: number };

/** Trials with an objective, in their order. */
export function ranked({ trials }: Sweep): Scored[] {
  return trials.filter((trial): trial is Scored => trial.objective !== null);
}

/** How good each trial is among all, from 0 to 1: by rank, which far-off trials do not squeeze. */
export function goodness(trials: readonly Scored[]): (trial: Scored) => number {
  const place = new Map(trials.map((trial, i) => [trial, i]));
  return (trial) => 1 - place.get(trial)! / Math.max(trials.length - 1, 1);
}

/** From the colour of the worst to that of the best. */
export const shade = (good: number): string =>
  `color-mix(in oklab, var(--high) ${Math.round(100 * good)}%, var(--worst))`;

export const nameOf = (trial: Scored, by: readonly SettingAxis[]): string =>
  `trial ${trial.name}: ${by.map((axis) => `${axis.name} ${settingOf(trial, axis)}`).join(", ")}; objective ${loss(trial.objective)}`;

/** A trial's setting as it is written, with more digits than an axis has. */
export function settingOf(trial: Trial, { key, text }: SettingAxis): string {
  const value = trial.settings[key];
  if (typeof value === "number") return plain(Number(value.toPrecision(4)));
  return value === undefined ? "–" : text(value);
}
