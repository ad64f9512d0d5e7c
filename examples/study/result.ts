// What the study keeps of a run.
import { readMetrics } from "../../src/train/recipe/metrics_file.ts";
import type { RunSummary } from "../../src/train/recipe/record.ts";

export interface Change {
  before: number;
  after: number;
}

export interface Result {
  lr: number;
  /** Trained parameters as a share of the model's. */
  share: number;
  /** Nats per byte on held-out text of the new domain, and on speeches. */
  valid: Change;
  general: Change;
  /** Looks at the new domain on the way. */
  curve: { step: number; loss: number }[];
  stepMs: number;
  peakBytes: number;
  savedBytes: number;
  /** Share of answers that are right to the letter, of the runs that teach a skill. */
  exact?: Change;
}

/** The figures of a run that has ended. */
export async function resultOf(run: RunSummary, exact: Change | null): Promise<Result> {
  const events = await readMetrics(`${run.folder}/metrics.jsonl`);
  const curve = events.flatMap((event) =>
    event.kind === "valid" ? [{ step: event.step!, loss: event.loss as number }] : [],
  );
  const change = ({ before, after }: { before: number; after: number | null }) => ({
    before,
    after: after!,
  });
  return {
    lr: run.config.training.lr!,
    share: run.parameters.share,
    valid: change(run.valid!),
    general: change(run.general!),
    curve,
    stepMs: run.step_ms!,
    peakBytes: run.memory!.peak_bytes.total,
    savedBytes: run.adapter_bytes!,
    ...(exact === null ? {} : { exact }),
  };
}
