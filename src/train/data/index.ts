// Files to examples, and examples to batches: `import { loadData } from "lowrank/data"`. Chats need the optional
// package @huggingface/jinja, which is why the main door leaves this room out.

export { IGNORED, type Row, type RowSet } from "../rows.ts";
export { type Augmentation, AugmentedRows, exampleMixing, tokenDropout } from "./augment.ts";
export { BucketedBatches, BucketedRows, type BucketOptions } from "./bucketed.ts";
export { type EncodeOptions, type Example, encodeSample } from "./encode.ts";
export { ExampleSet } from "./example_set.ts";
export { type LoadCounts, type LoadedData, type LoadOptions, loadData } from "./load.ts";
export { permuted } from "./order.ts";
export { PackedRows } from "./packing.ts";
export { dataFiles, type Found, readSamples } from "./read.ts";
export { PaddedRows } from "./row_set.ts";
export type { Sample } from "./sample.ts";
export { type SelfReplayOptions, selfReplay } from "./self_replay.ts";
export { type Replay, ShuffledRows } from "./shuffled_rows.ts";
export { FileTokens, MemoryTokens, type TokenStore } from "./token_store.ts";
