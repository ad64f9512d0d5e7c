// SweepProgress: what a sweep shows while it runs: its trials as a bar, with the best so far and the step of the run.
import type { SweepHooks } from "../train/sweep/index.ts";
import { LateBar } from "./late_bar.ts";
import type { Bar, Output } from "./output.ts";
import { bytesText, figureText } from "./text.ts";

type Watching = Required<
  Pick<SweepHooks, "onPhase" | "onLoad" | "onDownload" | "onTasks" | "onStep" | "onTrial" | "onProgress">
>; // biome-ignore format: one line

export class SweepProgress {
  private bar: Bar | null = null;
  private loading: LateBar | null = null;
  private counted = { done: 0, of: 0 };
  private running = "";
  private best = { trial: -1, objective: Infinity };

  constructor(private readonly output: Output) {}

  /** What watches a sweep. */
  hooks(): Watching {
    const { output } = this;
    return {
      onPhase: (phase) => {
        if (this.bar) return; // trials have the same phases, each for a moment
        this.loading?.end();
        output.note(`${phase} …`);
        this.loading = new LateBar(output, "loading");
      },
      onLoad: ({ bytesDone, bytesTotal }) =>
        this.loading?.update(bytesDone, bytesTotal, bytesText(bytesDone)),
      onDownload: ({ file, bytesDone, bytesTotal }) => {
        this.loading ??= new LateBar(output, "downloading");
        this.loading.update(bytesDone, bytesTotal, file);
      },
      onProgress: (done, of) => {
        this.counted = { done, of: Math.max(done, of) };
        this.running = "";
        this.show();
      },
      onTasks: (tasks) => {
        this.loading?.end();
        this.running = `trial ${tasks.map(({ trial }) => trial).join(", ")}`;
        this.show();
      },
      onStep: ({ step, steps }) => this.show(` step ${step}/${steps}`),
      onTrial: ({ trial, objective, stopped, error }) => {
        if (stopped === "failed") output.note(`trial ${trial} failed: ${error}`);
        if (objective !== null && objective < this.best.objective) this.best = { trial, objective };
      },
    };
  }

  /** Ends what is shown. */
  end(): void {
    this.loading?.end();
    this.bar?.end();
    this.loading = this.bar = null;
  }

  private show(step = ""): void {
    const { done, of } = this.counted;
    if (of === 0) return; // one trial, for other machines
    this.bar ??= this.output.bar("trials", of, done);
    const { trial, objective } = this.best;
    const best = trial < 0 ? "" : `best ${figureText(objective)} (${trial})`;
    const facts = [best, this.running && `${this.running}${step}`].filter((part) => part);
    this.bar.update(done, facts.join(" · "));
  }
}
