// Evaluation with intervals, forgetting, exact match, spectra: `import { compareWithBase } from "lowrank/evaluation"`.
export {
  type BootstrapOptions,
  bootstrap,
  bootstrapDifference,
  type Estimate,
  mapped,
} from "./bootstrap.ts";
export {
  compareWithBase,
  differenceOf,
  figuresOf,
  type RowDifference,
  type RowFigures,
  scoresOf,
  withoutAdapters,
} from "./compare.ts";
export {
  type ExactMatchOptions,
  exactMatch,
  type MatchedAnswer,
  type Normalisation,
  normalised,
  type Question,
  questionOf,
  readQuestions,
} from "./exact_match.ts";
export { type RankAdvice, rankAdvice } from "./rank_advice.ts";
export { type ReadRowsOptions, readRows } from "./read_rows.ts";
export { adapterSpectra, type Spectrum, spectrumOf, type Update } from "./spectrum.ts";
