// The live line of a training run: a bar on a terminal, one line in ten steps elsewhere.
import cliProgress from "cli-progress";
import type { FitProgress } from "../../src/train/fit_options.ts";

/** Returns what `fit` calls after each step, and what ends the line. */
export function progressLine(name: string, steps: number) {
  const format = `  ${name} {bar} {value}/{total}  loss {loss}  {speed} tokens/s  {left} left`;
  const bar = new cliProgress.SingleBar(
    { format, barsize: 24, hideCursor: true, noTTYOutput: false },
    cliProgress.Presets.shades_classic,
  );
  const live = process.stderr.isTTY;
  if (live) bar.start(steps, 0, { loss: "…", speed: "…", left: "…" });
  const onStep = ({ step, loss, tokensPerSecond, secondsLeft }: FitProgress) => {
    const fields = {
      loss: loss.toFixed(3),
      speed: tokensPerSecond.toFixed(0),
      left: `${Math.ceil(secondsLeft)} s`,
    };
    if (live) bar.update(step, fields);
    else if (step % 10 === 0 || step === steps) {
      const { speed, left } = fields;
      console.error(
        `  ${name} ${step}/${steps}  loss ${fields.loss}  ${speed} tokens/s  ${left} left`,
      );
    }
  };
  return { onStep, end: () => live && bar.stop() };
}
