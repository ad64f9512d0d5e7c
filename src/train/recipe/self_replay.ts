// Self-replay of a run: the base writes texts before anything is put into it, and they are mixed in.
import type { CausalLM } from "../../nn/causal_lm.ts";
import { selfReplay } from "../data/self_replay.ts";
import { Interrupted } from "./interrupted.ts";
import type { PlannedConfig } from "./plan.ts";
import { cut, type RunData, trainingRows } from "./run_data.ts";
import type { FullConfig } from "./schema.ts";

/** The configuration of a run whose base's texts are those of other runs, too: a folder keeps them, unless it says where. */
export function sharingTexts<T extends FullConfig>(config: T, folder: string): T {
  const { data } = config;
  if (!data.replay?.self || data.replay.file !== undefined) return config;
  const replay = { ...data.replay, file: `${folder}/self_replay.json` };
  return { ...config, data: { ...data, replay } };
}

/**
 * A run's data with the texts that its configuration asks the base for; as it is where it asks for none.
 * There are no more texts than rows that are to hold them.
 * @param model  without adapters
 * @throws Interrupted
 */
export async function withSelfReplay(
  { data: config, training, output }: PlannedConfig,
  data: RunData,
  model: CausalLM,
  signal?: AbortSignal,
): Promise<RunData> {
  const { replay, rows, length } = config;
  if (!replay?.self) return data;
  const { share, temperature, seed, file = `${output}/self_replay.json` } = replay;
  const needed = Math.ceil(training.steps * training.batch * training.accumulate * share);
  const texts = Math.min(replay.texts, needed);
  const onToken = () => {
    if (signal?.aborted) throw new Interrupted();
  };
  const sampling = { temperature };
  const set = await selfReplay(model, { texts, length, seed, sampling, file, onToken });
  const mixed = { rows: cut(set, rows, length, "data.replay"), share };
  return { ...data, train: trainingRows(data.own, mixed, config, model.sizes.vocabSize) };
}
