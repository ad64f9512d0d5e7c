// TrainProgress: what a training run shows while it runs: phases as notes, steps as a bar with loss and time left.
import type { RunHooks } from "../train/recipe/index.ts";
import { LateBar } from "./late_bar.ts";
import type { Bar, Output } from "./output.ts";
import { bytesText, counted, countText, figureText } from "./text.ts";
import { rateText } from "./train_text.ts";

type Watching = Required<
  Pick<
    RunHooks,
    "onPhase" | "onDownload" | "onLoad" | "onRateStep" | "onStart" | "onStep" | "onLook"
  >
>;

export class TrainProgress {
  private bar: Bar | null = null;
  private loading: LateBar | null = null;
  private held = "";

  constructor(private readonly output: Output) {}

  /** What watches a run. */
  hooks(): Watching {
    const { output } = this;
    return {
      onPhase: (phase) => {
        this.end();
        output.note(`${phase} …`);
        this.loading = new LateBar(output, "loading");
      },
      onDownload: ({ file, bytesDone, bytesTotal }) => {
        this.loading ??= new LateBar(output, "downloading");
        this.loading.update(bytesDone, bytesTotal, `${file}, ${sizes(bytesDone, bytesTotal)}`);
      },
      onLoad: ({ bytesDone, bytesTotal }) =>
        this.loading?.update(bytesDone, bytesTotal, sizes(bytesDone, bytesTotal)),
      onRateStep: ({ lr, change }, step, steps) => {
        if (step === 1) this.loading = new LateBar(output, "searching");
        this.loading?.update(
          step,
          steps,
          `lr ${figureText(lr, 2)}, loss ${change < 0 ? "" : "+"}${change.toFixed(3)}`,
        );
      },
      onStart: ({ config, valid, parameters, found_rate }) => {
        this.end();
        if (found_rate) output.note(`learning rate ${rateText(found_rate)}`);
        this.held = valid ? `valid ${valid.before.toFixed(3)}` : "";
        output.note(`training ${countText(parameters.trainable)} parameters for ${counted(config.training.steps, "step")} …`); // biome-ignore format: one line
      },
      onStep: ({ step, steps, smoothedLoss }) => {
        this.bar ??= output.bar("training", steps, step - 1);
        this.bar.update(step, `loss ${smoothedLoss.toFixed(3)} ${this.held}`.trimEnd());
      },
      onLook: ({ set, loss }) => {
        if (set === "valid") this.held = `valid ${loss.toFixed(3)}`;
      },
    };
  }

  /** Ends what is shown. */
  end(): void {
    this.loading?.end();
    this.bar?.end();
    this.loading = this.bar = null;
  }
}

const sizes = (done: number, of: number) => `${bytesText(done)} of ${bytesText(of)}`;
