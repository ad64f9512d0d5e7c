// Optimisers, clipping, schedules.
export { AdamW, type AdamWOptions } from "./adamw.ts";
export { clipGradNorm } from "./clip.ts";
export { decayGroups } from "./decay_groups.ts";
export {
  type GroupSettings,
  Optimizer,
  type OptimizerState,
  type ParameterGroup,
} from "./optimizer.ts";
export {
  constantSchedule,
  cosineSchedule,
  linearSchedule,
  type Schedule,
  type ScheduleName,
  Scheduler,
  scheduleOf,
} from "./schedule.ts";
export { SGD, type SGDOptions } from "./sgd.ts";
