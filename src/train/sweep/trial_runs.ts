// The trials of a sweep as training runs, each in its folder.
import type { Base } from "../recipe/base.ts";
import { Interrupted } from "../recipe/interrupted.ts";
import type { RunSummary } from "../recipe/record.ts";
import type { FullConfig } from "../recipe/schema.ts";
import { type RunHooks, trainRun } from "../recipe/train_run.ts";
import type { Task, TrialResult } from "./sweep.ts";
import { type SweepPlan, trialConfig } from "./sweep_config.ts";

/** What watches the runs of a sweep. */
export interface TrialHooks
  extends Pick<RunHooks, "onPhase" | "onDownload" | "onLoad" | "onStep" | "command" | "signal"> {
  /** Called before trials run: one, or those that train side by side. */
  onTasks?: (tasks: readonly Task[]) => void;
}

export class TrialRuns {
  constructor(
    private readonly plan: SweepPlan,
    private readonly base: Base,
    private readonly hooks: TrialHooks,
  ) {}

  /** Runs tasks one after another. What one of them throws is its result. */
  async run(tasks: readonly Task[]): Promise<(TrialResult | Error)[]> {
    const results: (TrialResult | Error)[] = [];
    for (const task of tasks) {
      this.hooks.onTasks?.([task]);
      results.push(await this.one(task).catch(asResult));
    }
    return results;
  }

  private async one(task: Task): Promise<TrialResult> {
    const began = performance.now();
    const { onTasks: _, ...hooks } = this.hooks;
    const run = await trainRun(this.configOf(task), {
      ...hooks,
      base: this.base,
      ...(task.steps === null ? {} : { limits: { until: task.steps } }),
    });
    return resultOf(run, (performance.now() - began) / 1000);
  }

  private configOf({ settings, seed, folder }: Task): FullConfig {
    const config = trialConfig(this.plan, { seed, ...settings });
    return { ...config, output: folder, resume: "if-present" };
  }
}

function resultOf({ valid, general, steps, stopped }: RunSummary, seconds: number): TrialResult {
  const validLoss = valid?.after ?? Number.NaN;
  return { validLoss, forgetting: general?.forgetting ?? null, steps, seconds, stopped: stopped! };
}

/** A run that was asked to end before its first step is gone on with another time. */
function asResult(error: unknown): TrialResult | Error {
  if (!(error instanceof Interrupted))
    return error instanceof Error ? error : new Error(`${error}`);
  return { validLoss: Number.NaN, forgetting: null, steps: 0, seconds: 0, stopped: "aborted" };
}
