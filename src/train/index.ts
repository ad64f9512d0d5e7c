// Training and evaluation of language models: `import { fit } from "lowrank/train"`.
export {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type RowScore,
  scoreRows,
} from "./evaluate.ts";
export { type FindRateOptions, type FoundRate, findRate, type RatePoint } from "./find_rate.ts";
export { fit } from "./fit.ts";
export type {
  CheckpointOptions,
  FitOptions,
  FitProgress,
  FitResult,
  Look,
  Stopped,
  ValidateOptions,
} from "./fit_options.ts";
export {
  countedTargets,
  type Row,
  type RowSet,
  type Rows,
  type TokenText,
  type TrainingRows,
} from "./rows.ts";
export {
  BYTE_VOCABULARY,
  ByteTokenizer,
  decodeBytes,
  encodeBytes,
  readText,
} from "./text/bytes.ts";
export { type Batch, splitTail, Windows } from "./windows.ts";
