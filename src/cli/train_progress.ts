// TrainProgress: what a training run shows while it runs: phases as notes, steps as a bar with loss and time left.
import type { RunHooks } from "../train/recipe/index.ts";
import { LateBar } from "./late_bar.ts";
import type { Bar, Output } from "./output.ts";
import { bytesText, counted, countText, figureText } from "./text.ts";
import { rateText } from "./train_text.ts";

type Watching = Required<
  Pick<
    RunHooks,
    | "onPhase"
    | "onDownload"
    | "onLoad"
    | "onRateStep"
    | "onStart"
    | "onStep"
    | "onLook"
    | "onLooking"
  >
>;

export class TrainProgress {
  private bar: Bar | null = null;
  private loading: LateBar | null = null;
  private phaseBegan = performance.now();
  private held = "";
  private step = 0;
  private loss = "";

  constructor(private readonly output: Output) {}

  /** What watches a run. */
  hooks(): Watching {
    const { output } = this;
    return {
      onPhase: (phase) => {
        this.end();
        output.note(`${phase} …`);
      },
      onDownload: ({ file, bytesDone, bytesTotal }) => {
        this.late("downloading", bytesDone, bytesTotal, `${file}, ${sizes(bytesDone, bytesTotal)}`);
      },
      onLoad: ({ bytesDone, bytesTotal }) =>
        this.late("loading", bytesDone, bytesTotal, sizes(bytesDone, bytesTotal)),
      onRateStep: ({ lr, change }, step, steps) => {
        const facts = `lr ${figureText(lr, 2)}, loss ${change < 0 ? "" : "+"}${change.toFixed(3)}`;
        this.late("searching", step, steps, facts);
      },
      onStart: ({ config, valid, parameters, found_rate }) => {
        this.end();
        if (found_rate) output.note(`learning rate ${rateText(found_rate)}`);
        this.held = valid ? `valid ${valid.before.toFixed(3)}` : "";
        output.note(`training ${countText(parameters.trainable)} parameters for ${counted(config.training.steps, "step")} …`); // biome-ignore format: one line
      },
      onStep: ({ step, steps, smoothedLoss }) => {
        this.bar ??= output.bar("training", steps, step - 1);
        this.step = step;
        this.loss = `loss ${smoothedLoss.toFixed(3)}`;
        this.showStep();
      },
      onLooking: (set, done, rows) => {
        if (!this.bar) this.late(`looking at ${set}`, done, rows);
        else this.bar.update(this.step, `${this.loss} ${set}: row ${done} of ${rows}`);
      },
      onLook: ({ set, loss }) => {
        if (set === "valid") this.held = `valid ${loss.toFixed(3)}`;
        this.showStep();
      },
    };
  }

  /** What takes its time before the steps, and after them. */
  private late(name: string, done: number, of: number, facts = ""): void {
    if (this.loading?.name !== name) {
      this.loading?.end();
      this.loading = new LateBar(this.output, name, this.phaseBegan);
    }
    this.loading.update(done, of, facts);
  }

  private showStep(): void {
    this.bar?.update(this.step, `${this.loss} ${this.held}`.trimEnd());
  }

  /** Ends what is shown. */
  end(): void {
    this.loading?.end();
    this.bar?.end();
    this.loading = this.bar = null;
    this.phaseBegan = performance.now();
  }
}

const sizes = (done: number, of: number) => `${bytesText(done)} of ${bytesText(of)}`;
