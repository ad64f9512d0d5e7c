// The demo's table: LoRA beside full fine-tuning, every figure from this run.
import type { FullFigures, LoraFigures } from "./arms.ts";

const bytes = (n: number): string =>
  n >= 2 ** 20 ? `${(n / 2 ** 20).toFixed(1)} MiB` : `${(n / 1024).toFixed(0)} KiB`;
const ms = (n: number): string => `${n.toFixed(1)} ms`;
const loss = (n: number): string => n.toFixed(3);
const change = (n: number, from: number): string =>
  `${loss(n)} (${n - from >= 0 ? "+" : "−"}${loss(Math.abs(n - from))})`;

function layout(rows: readonly (readonly string[])[]): string {
  const widths = [0, 1, 2, 3].map((i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))),
    )
    .map((cells) => `  ${cells.join("   ")}`.trimEnd())
    .join("\n");
}

/** The table as text. Losses are means over held-out bytes, in nats per byte. */
export function table(lora: LoraFigures, full: FullFigures): string {
  const { before, after, merge } = lora;
  const share = `${lora.trainable} (${(100 * lora.share).toFixed(1)} %)`;
  const main = layout([
    ["", "base", "LoRA", "full"],
    ["trained parameters", "", share, `${full.trainable} (100 %)`],
    ["bytes on disk", "", bytes(lora.adapterBytes), bytes(lora.checkpointBytes)],
    ["step time, median", "", ms(lora.stepMs), ms(full.stepMs)],
    ["peak GPU bytes in training", "", bytes(lora.peakBytes), bytes(full.peakBytes)],
    [
      "held-out loss, target domain",
      loss(before.target),
      change(after.target, before.target),
      change(full.after.target, before.target),
    ],
    [
      "held-out loss, base domain (forgetting)",
      loss(before.base),
      change(after.base, before.base),
      change(full.after.base, before.base),
    ],
  ]);
  const relative = (merge.difference / merge.largestLogit).toExponential(1);
  const merging = layout([
    ["", "merged", "unmerged"],
    ["forward pass, median", ms(merge.mergedMs), ms(merge.unmergedMs)],
  ]);
  const difference = `  largest difference of logits ${merge.difference.toExponential(1)}, ${relative} of the largest logit`;
  return `${main}\n\n${merging}\n${difference}`;
}
