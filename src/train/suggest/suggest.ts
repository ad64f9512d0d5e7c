// suggest: settings that a training run would do well to begin with, and why. No weight is read.
import { Base, type BaseHooks } from "../recipe/base.ts";
import type { Origin } from "../recipe/config_error.ts";
import { sharesBase } from "../recipe/method.ts";
import { planRun } from "../recipe/plan.ts";
import type { RawConfig } from "../recipe/read_config.ts";
import { resolveConfig } from "../recipe/resolve.ts";
import { filesByKind, type RunData } from "../recipe/run_data.ts";
import type { FullConfig } from "../recipe/schema.ts";
import { type Capacity, capacityOf } from "./capacity.ts";
import {
  adapterChoices,
  type Choice,
  lengthChoices,
  lookChoices,
  rateChoice,
  stepChoices,
} from "./choices.ts";
import { Chosen } from "./chosen.ts";
import { type DataFacts, lookAtData } from "./data_facts.ts";
import { type Fitted, fitted } from "./fitting.ts";
import {
  type Shape,
  type StepMemory,
  stepMemory,
  type TrainedSizes,
  trainedSizes,
} from "./memory.ts";
import { hintsOf, warningsOf } from "./warnings.ts";

export interface SuggestOptions extends BaseHooks {
  /** Where the configuration comes from, for messages. */
  origin?: Origin;
  /** Bytes that training may take. Absent: as much as it takes. */
  memory?: number;
}

export interface Suggestion {
  /** What was asked and what is suggested: a configuration for `trainRun`. */
  settings: RawConfig;
  /** What is suggested beside what was asked, and why. */
  choices: Choice[];
  model: { name: string; context: number } & Omit<TrainedSizes, "held" | "kept" | "passing">;
  data: DataFacts & {
    length: number;
    /** Rows to train on, and those that are held out. */
    rows: number;
    heldOut: number | null;
    /** Samples that lose their end. */
    truncated: number;
  };
  /** Optimiser steps, and how many rows each has. */
  steps: number;
  rowsPerStep: number;
  /** Bytes of a step by formula, and what full fine-tuning of the same rows would take. */
  memory: { bytes: StepMemory; full: number; limit: number | null; fits: boolean };
  capacity: Capacity;
  warnings: string[];
  hints: string[];
}

/**
 * Looks at a model and at data, and suggests the settings that were not asked for. `await init()` comes first.
 * @param raw  a configuration of which `model` and `data.train` must be there; what it names stays as it is
 * @throws as `trainRun` for what does not fit, before it loads the model
 */
export async function suggest(raw: object, options: SuggestOptions = {}): Promise<Suggestion> {
  const { origin = {}, onDownload, onPhase } = options;
  const chosen = new Chosen(raw as RawConfig);
  chosen.add({ key: "output", value: "out/run", why: "gets all of the run" });
  const asked = resolveConfig(chosen.settings, origin);
  using base = await Base.open(asked, onDownload ? { onDownload } : {});
  onPhase?.("reading the data");
  const { train, learn, turns, skip_bad: skipBad, spill } = asked.data;
  const kept = spill === undefined ? {} : { spill };
  const facts = await lookAtData(base.tokenizer, { train, learn, turns, skipBad, ...kept });
  chosen.add(...adapterChoices(asked));
  const { samples } = await filesByKind(train);
  chosen.add(...lengthChoices(facts, samples.length === 0, base.sizes.maxLength));
  const limit = options.memory ?? null;
  const room = await fitInto(limit, chosen, base, origin);
  const config = () => resolveConfig(chosen.settings, origin);
  const data = await base.dataOf(config());
  const planned = addSteps(chosen, config, data, room);
  const { batch, accumulate, steps } = planned.training;
  const rowsPerStep = batch * accumulate;
  const capacity = capacityIn(facts, data, room, steps * rowsPerStep * data.length);
  if (data.valid) chosen.add(...lookChoices(steps, capacity.verdict === "ample"));
  chosen.add(rateChoice(asked.method, room.sizes.base));
  const shape = { ...room, batch, length: data.length };
  const bytes = stepMemory(room.sizes, shape);
  const whole = await trainedSizes(base.folder, { ...asked, method: "full", base_dtype: "auto" });
  const { held: _, kept: __, passing: ___, ...sizes } = room.sizes;
  const found: Omit<Suggestion, "warnings" | "hints"> = {
    settings: chosen.settings,
    choices: chosen.list,
    model: { name: asked.model, context: base.sizes.maxLength, ...sizes },
    data: {
      ...facts,
      length: data.length,
      rows: data.own.count,
      heldOut: data.valid?.count ?? null,
      truncated: config().data.long === "truncate" ? data.counts.long : 0,
    },
    steps,
    rowsPerStep,
    memory: {
      bytes,
      full: stepMemory(whole, shape).total,
      limit,
      fits: limit === null || bytes.total <= limit,
    },
    capacity,
  };
  const warnings = [...data.notes, ...warningsOf(found, config())];
  return { ...found, warnings, hints: hintsOf(config()) };
}

/** Makes a step fit the memory, and says so. */
async function fitInto(
  limit: number | null,
  chosen: Chosen,
  base: Base,
  origin: Origin,
): Promise<Fitted> {
  const config = resolveConfig(chosen.settings, origin);
  const { method, training, base_dtype } = config;
  const { batch, accumulate, gradient_checkpointing } = training;
  const length = config.data.length!;
  const start: Shape = { batch, accumulate, length, base_dtype, gradient_checkpointing };
  const free = (key: string) => !chosen.isGiven(key);
  const may = {
    batch: free("training.batch"),
    accumulate: free("training.accumulate"),
    length: free("data.length"),
    base_dtype: free("base_dtype") && sharesBase(method),
    gradient_checkpointing: free("training.gradient_checkpointing"),
  };
  const sizesOf = (dtype: FullConfig["base_dtype"]) =>
    trainedSizes(base.folder, { ...config, base_dtype: dtype });
  const room = await fitted(start, limit ?? Infinity, may, sizesOf);
  const why = "so that a step fits the memory";
  if (room.batch !== batch) {
    chosen.add({ key: "training.batch", value: room.batch, why });
    const { accumulate: value } = room;
    chosen.add({ key: "training.accumulate", value, why: `${batch * accumulate} rows a step` });
  }
  if (room.gradient_checkpointing !== gradient_checkpointing) {
    const key = "training.gradient_checkpointing";
    chosen.add({ key, value: true, why: `${why}: layers are computed again in backward` });
  }
  if (room.base_dtype !== base_dtype) {
    chosen.add({ key: "base_dtype", value: room.base_dtype, why: `${why}: the base in 4 bits` });
  }
  if (room.length !== start.length) chosen.add({ key: "data.length", value: room.length, why });
  return room;
}

/** Batch and epochs for the rows that there are, within what the memory has room for. */
function addSteps(chosen: Chosen, config: () => FullConfig, data: RunData, room: Fitted) {
  const [batch, epochs] = stepChoices(data.own.count, data.valid !== null);
  const wanted = Number(batch!.value);
  const value = Math.min(wanted, room.batch);
  if (room.accumulate === 1 || value < room.batch) chosen.add({ ...batch!, value });
  if (room.accumulate > 1) {
    const rows = Math.min(wanted, room.batch * room.accumulate);
    const micro = Math.ceil(rows / value);
    chosen.add({ key: "training.accumulate", value: micro, why: `${rows} rows a step` });
  }
  if (!chosen.isGiven("training.steps")) chosen.add(epochs!);
  return planRun(config(), data);
}

/** Of the text that training gets to see. */
function capacityIn(facts: DataFacts, data: RunData, { sizes }: Fitted, places: number): Capacity {
  const learnt = Math.min((facts.learnt / facts.tokens) * data.tokens, places);
  return capacityOf(learnt * facts.bytesPerToken, sizes.trainable);
}
