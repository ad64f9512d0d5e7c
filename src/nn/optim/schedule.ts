// Learning-rate schedules: functions from the number of steps taken to a factor of the learning rate,
// the same numbers as Transformers' get_*_schedule_with_warmup.
import { replayed } from "../../gpu/recording.ts";
import { checkWord } from "../../kernels/check.ts";
import type { Optimizer } from "./optimizer.ts";

/** Factor of the learning rate after `step` steps; the first step uses schedule(0). */
export type Schedule = (step: number) => number;

const rising = (step: number, warmup: number) => step / Math.max(1, warmup);

/** 1, after a linear rise from 0 over `warmup` steps. */
export function constantSchedule(warmup = 0): Schedule {
  return (step) => (step < warmup ? rising(step, warmup) : 1);
}

/** A rise over `warmup` steps, then a straight line to 0 at step `total`. */
export function linearSchedule(warmup: number, total: number): Schedule {
  return (step) => {
    if (step < warmup) return rising(step, warmup);
    return Math.max(0, (total - step) / Math.max(1, total - warmup));
  };
}

/**
 * A rise over `warmup` steps, then (1 + cos 2π·cycles·t)/2 for t from 0 to 1 at step `total`.
 * @param cycles  waves of the cosine; the default ½ falls once, from 1 to 0
 * Source: Loshchilov & Hutter 2017, arXiv 1608.03983.
 */
export function cosineSchedule(warmup: number, total: number, cycles = 0.5): Schedule {
  return (step) => {
    if (step < warmup) return rising(step, warmup);
    const t = (step - warmup) / Math.max(1, total - warmup);
    return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * t)));
  };
}

const BY_NAME = {
  constant: (warmup: number) => constantSchedule(warmup),
  cosine: (warmup: number, total: number) => cosineSchedule(warmup, total),
  linear: (warmup: number, total: number) => linearSchedule(warmup, total),
};

export type ScheduleName = keyof typeof BY_NAME;

/**
 * The schedule of a name: each rises over `warmup` steps; cosine and linear are at 0 at step `total`.
 * @throws ValueError for a name that is not among them
 */
export function scheduleOf(name: ScheduleName, warmup: number, total: number): Schedule {
  checkWord("scheduleOf", "schedule", name, Object.keys(BY_NAME));
  return BY_NAME[name](warmup, total);
}

/** Sets the learning rates of an optimiser's groups, each from its own at construction. */
export class Scheduler {
  private readonly rates: number[];

  /** @param steps  steps taken before, when training continues */
  constructor(
    private readonly optimizer: Optimizer,
    private readonly schedule: Schedule,
    public steps = 0,
  ) {
    this.rates = optimizer.groups.map((group) => group.lr);
    this.apply();
  }

  /** Call it after `optimizer.step()`. */
  step(): void {
    replayed(() => {
      this.steps += 1;
      this.apply();
    });
  }

  private apply(): void {
    const factor = this.schedule(this.steps);
    this.optimizer.groups.forEach((group, i) => {
      group.lr = this.rates[i]! * factor;
    });
  }
}
