// A step of training under the profiler: what each op does, and how long it takes on the GPU.
import { type Profile, profile } from "../../kernels/profile.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { AdamW } from "../../nn/optim/index.ts";
import { randomState, setRandomState } from "../../tensor/philox.ts";
import type { TrainingRows } from "../rows.ts";
import { TrainStep } from "../train_step.ts";
import type { MetricsEvent } from "./metrics_file.ts";

/**
 * Profiles a whole step of one micro-batch: forward, backward, norm and update, with a rate of 0, so that nothing
 * moves. The step is eager, for each dispatch gets a pass of its own.
 * @param trace  a file to write for ui.perfetto.dev
 */
export async function profileStep(
  model: CausalLM,
  train: TrainingRows,
  batch: number,
  trace: string,
): Promise<Profile> {
  const random = randomState();
  const wasTraining = model.training;
  const optimizer = new AdamW(model.trainableParameters(), { lr: 0, weightDecay: 0 });
  const sizes = { batch, accumulate: 1, clip: 1, capture: false, length: train.length };
  const step = new TrainStep(model, optimizer, sizes);
  const rows = train.rows(batch, 0, 0);
  const run = async () => {
    await step.compute(rows);
    step.update();
  };
  try {
    model.train();
    await run(); // compiles and allocates
    return await profile(run, { trace });
  } finally {
    step.dispose();
    optimizer.zeroGrad();
    optimizer.dispose();
    setRandomState(random);
    model.train(wasTraining);
  }
}

/** A profile as lines of metrics.jsonl. */
export function profileEvents({ ops }: Profile): MetricsEvent[] {
  return ops.map(({ label, calls, gpuTimeMs, flops, bytes, shareOfRoofline }) => ({
    kind: "profile",
    op: label,
    ...{ calls, gpu_ms: gpuTimeMs, flops, bytes, roofline: shareOfRoofline },
  }));
}
