// The demo's table: LoRA beside full fine-tuning, every figure from this run.
import type { FullFigures, LoraFigures, Losses } from "./arms.ts";

const bytes = (n: number): string =>
  n >= 2 ** 20 ? `${(n / 2 ** 20).toFixed(1)} MiB` : `${(n / 1024).toFixed(0)} KiB`;
const ms = (n: number): string => `${n.toFixed(1)} ms`;
const loss = (n: number): string => n.toFixed(3);
const count = (n: number): string => n.toLocaleString("en-US");
const change = (n: number, from: number): string =>
  `${loss(n)} (${n - from >= 0 ? "+" : "−"}${loss(Math.abs(n - from))})`;

function layout(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...rows.map((row) => row[i]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))),
    )
    .map((cells) => `  ${cells.join("   ")}`.trimEnd())
    .join("\n");
}

/** The tables as text. Losses are means over held-out bytes, in nats per byte. */
export function table(before: Losses, lora: LoraFigures, full: FullFigures): string {
  const { after, merge } = lora;
  const main = layout([
    ["", "base", "LoRA", "full fine-tuning"],
    ["learning rate, each tuned", "", `${lora.lr}`, `${full.lr}`],
    [
      "trained parameters",
      "",
      `${count(lora.trainable)} (${(100 * lora.share).toFixed(1)} %)`,
      `${count(full.trainable)} (100 %)`,
    ],
    [
      "bytes to keep on disk",
      "",
      `adapter, f32: ${bytes(lora.adapterBytes)}`,
      `checkpoint, f16: ${bytes(lora.checkpointBytes)}`,
    ],
    ["training step, median", "", ms(lora.stepMs), ms(full.stepMs)],
    ["peak GPU bytes in training", "", bytes(lora.peakBytes), bytes(full.peakBytes)],
    [
      "loss on the target domain",
      loss(before.target),
      change(after.target, before.target),
      change(full.after.target, before.target),
    ],
    [
      "loss on the base's domain (forgetting)",
      loss(before.base),
      change(after.base, before.base),
      change(full.after.base, before.base),
    ],
  ]);
  const merging = layout([
    ["LoRA in use", "merged into the weights", "beside them"],
    ["forward pass, median", ms(merge.mergedMs), ms(merge.unmergedMs)],
    [
      "largest difference of logits",
      merge.difference.toExponential(1),
      `of logits up to ${merge.largestLogit.toFixed(1)}`,
    ],
  ]);
  return `${main}\n  Losses: nats per byte of text that no training and no tuning has seen. Lower is better.\n\n${merging}`;
}
