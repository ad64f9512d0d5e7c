// metrics.jsonl: a line per event of a run. A run that goes on writes on, with each step once.
import {
  appendFileSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { diskError, writeFileSafely } from "../../tensor/files.ts";
import type { FitProgress } from "../fit_options.ts";
import { jsonObjectOf } from "../json_lines.ts";

/** A line of the file. */
export interface MetricsEvent {
  kind: "step" | "valid" | "general" | "profile";
  step?: number;
  [name: string]: unknown;
}

export class MetricsFile {
  private readonly seen = new Set<string>();

  private constructor(
    private readonly path: string,
    /** Whole lines of the calls before, until the first event of this one tells where it goes on. */
    private before: MetricsEvent[] | null,
  ) {}

  /** @param isResumed  whether what is there is kept, up to the step from which the run goes on */
  static async open(path: string, isResumed: boolean): Promise<MetricsFile> {
    if (isResumed && existsSync(path)) return new MetricsFile(path, readMetrics(path));
    await writeFileSafely(path, "");
    return new MetricsFile(path, null);
  }

  /**
   * Tells after which step the run goes on: later events, of steps that no checkpoint kept, and a line that
   * a kill cut off are removed. Has an effect once.
   */
  goOnAfter(step: number): void {
    if (!this.before) return;
    const kept = this.before.filter((event) => (event.step ?? 0) <= step);
    this.before = null;
    const temporary = `${this.path}.${process.pid}.0.tmp`;
    try {
      writeFileSync(temporary, kept.map((event) => `${JSON.stringify(event)}\n`).join(""));
      renameSync(temporary, this.path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw diskError(this.path, error);
    }
    for (const event of kept) this.seen.add(nameOf(event));
  }

  /** Whether there is an event of this kind and step. */
  has(kind: MetricsEvent["kind"], step: number): boolean {
    return this.seen.has(nameOf({ kind, step }));
  }

  /** Adds a line. Throws DiskError where the disk refuses. */
  add(event: MetricsEvent): void {
    try {
      appendFileSync(this.path, `${JSON.stringify(event)}\n`);
    } catch (error) {
      throw diskError(this.path, error);
    }
    this.seen.add(nameOf(event));
  }
}

const nameOf = ({ kind, step }: MetricsEvent) => `${kind} ${step}`;

/** The events of a metrics.jsonl; a line that a kill cut off is left out. */
export function readMetrics(path: string): MetricsEvent[] {
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.flatMap((line) => (jsonObjectOf(line) as MetricsEvent | null) ?? []);
}

/** A step as a line. */
export function stepEvent(progress: FitProgress): MetricsEvent {
  const { step, loss, smoothedLoss, lr, gradNorm, stepMs, skipped, tokens } = progress;
  return {
    kind: "step",
    step,
    loss,
    smoothed_loss: smoothedLoss,
    lr,
    grad_norm: gradNorm,
    step_ms: stepMs,
    tokens_per_second: (1000 * tokens) / stepMs,
    skipped,
  };
}
