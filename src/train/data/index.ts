// Data: files to examples, and examples to batches.
export { type EncodeOptions, type Example, encodeSample, IGNORED } from "./encode.ts";
export { ExampleSet } from "./example_set.ts";
export { type LoadCounts, type LoadedData, type LoadOptions, loadData } from "./load.ts";
export { dataFiles, type Found, readSamples } from "./read.ts";
export type { Sample } from "./sample.ts";
