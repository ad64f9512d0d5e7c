// The trials of a sweep as training runs, each in its folder.
import type { Base } from "../recipe/base.ts";
import { Interrupted } from "../recipe/interrupted.ts";
import type { RunSummary } from "../recipe/record.ts";
import type { RunHooks } from "../recipe/run.ts";
import type { FullConfig } from "../recipe/schema.ts";
import { sharingTexts } from "../recipe/self_replay.ts";
import { sideBySideKey, trainSideBySide } from "../recipe/side_by_side.ts";
import { trainRun } from "../recipe/train_run.ts";
import type { Settings } from "./space.ts";
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

  /** Trials of one kind may train side by side. */
  kindOf(settings: Settings): string {
    try {
      const key = sideBySideKey(trialConfig(this.plan, settings));
      if (key) return key;
    } catch {
      // Settings that contradict each other: the trial will say so.
    }
    return JSON.stringify(settings);
  }

  /** Runs tasks, several of one kind side by side where they can. What one of them throws is its result. */
  async run(tasks: readonly Task[]): Promise<(TrialResult | Error)[]> {
    const together = tasks.length > 1 ? await this.sideBySide(tasks) : null;
    const results: (TrialResult | Error)[] = [];
    for (const [i, task] of tasks.entries()) {
      const known = together?.[i];
      // What went wrong beside others, for want of memory say, may go well alone.
      if (known && !(known instanceof Error)) results.push(known);
      else results.push(await this.alone(task).catch(asResult));
    }
    return results;
  }

  private async sideBySide(tasks: readonly Task[]): Promise<(TrialResult | Error)[] | null> {
    const began = performance.now();
    const configs = tasks.map((task) => this.configOf(task));
    this.hooks.onTasks?.(tasks);
    try {
      const runs = await trainSideBySide(configs, this.runHooks(tasks[0]!));
      const seconds = (performance.now() - began) / 1000 / tasks.length;
      return runs?.map((run) => (run instanceof Error ? run : resultOf(run, seconds))) ?? null;
    } catch (error) {
      return tasks.map(() => asResult(error));
    }
  }

  private async alone(task: Task): Promise<TrialResult> {
    const began = performance.now();
    this.hooks.onTasks?.([task]);
    const run = await trainRun(this.configOf(task), this.runHooks(task));
    return resultOf(run, (performance.now() - began) / 1000);
  }

  private runHooks({ steps }: Task) {
    const { onTasks: _, ...hooks } = this.hooks;
    const limits = steps === null ? {} : { limits: { until: steps } };
    return { ...hooks, base: this.base, ...limits };
  }

  private configOf({ settings, seed, folder }: Task): FullConfig {
    const config = trialConfig(this.plan, { seed, ...settings });
    const own = { output: folder, resume: "if-present" } as const;
    return sharingTexts({ ...config, ...own }, this.plan.config.output);
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
