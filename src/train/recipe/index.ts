// Training runs from a configuration: `import { trainRun } from "lowrank/recipe"`. Node only; needs zod, and yaml for
// files.
export { benchDevice, type DeviceBenchOptions, type DeviceRow } from "../bench/bench_device.ts";
export { benchModel, type ModelBench, type ModelBenchOptions } from "../bench/bench_model.ts";
export {
  type FolderCertificate,
  type MergeToFolderOptions,
  mergeToFolder,
  type WeightedFolder,
} from "../merge/merge_to_folder.ts";
export {
  type QuantizedKind,
  type QuantizeOptions,
  type QuantizeReport,
  quantizeFolder,
} from "../quantize/quantize_folder.ts";
export { type Suggestion, type SuggestOptions, suggest } from "../suggest/suggest.ts";
export { writeConfigFile } from "../suggest/write_config.ts";
export { Base, type BaseHooks } from "./base.ts";
export { type Arm, armOf, type CompareHooks, type Comparison, compareMethods } from "./compare.ts";
export { ConfigError, type Origin } from "./config_error.ts";
export { Interrupted } from "./interrupted.ts";
export { type MetricsEvent, readMetrics } from "./metrics_file.ts";
export { type PlannedConfig, planRun } from "./plan.ts";
export { parseValue, type RawConfig, readConfigFile, withSettings } from "./read_config.ts";
export { type RunSummary, readRun } from "./record.ts";
export { loraConfigOf, resolveConfig } from "./resolve.ts";
export type { RunHooks } from "./run.ts";
export type { RunData } from "./run_data.ts";
export { allKeys, type FullConfig, METHODS, type Method, type TrainConfig } from "./schema.ts";
export { trainRun } from "./train_run.ts";
