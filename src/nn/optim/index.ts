// Optimisers, clipping, schedules.
export { AdamW, type AdamWOptions } from "./adamw.ts";
export { clipGradNorm } from "./clip.ts";
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
  Scheduler,
} from "./schedule.ts";
export { SGD, type SGDOptions } from "./sgd.ts";
