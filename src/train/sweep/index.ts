// Sweeps over the settings of training runs: `import { runSweep } from "lowrank/sweep"`. Node only; needs zod, and yaml
// for files.
export { collect } from "./collect.ts";
export { EXPORTS, type ExportKind } from "./export.ts";
export { overSeeds, ranking, type SeedGroup } from "./ranking.ts";
export {
  type Exported,
  exportSweep,
  runSweep,
  runTrial,
  type SweepHooks,
  type SweepSummary,
} from "./run_sweep.ts";
export type { Job, Outcome, Search } from "./search.ts";
export { SEARCHES, type SearchName, type SearchOptions, searchOf } from "./searches.ts";
export { readSpace, type Settings, type Space, type Value } from "./space.ts";
export {
  type SweepOptions,
  type SweepResult,
  sweep,
  type Task,
  type TrialResult,
} from "./sweep.ts";
export { configOfFacts, planSweep, type SweepConfig, type SweepPlan } from "./sweep_config.ts";
export { type TrialLine, TrialsFile } from "./trials_file.ts";
