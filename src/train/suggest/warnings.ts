// What one should know before training, in sentences.
import type { FullConfig } from "../recipe/schema.ts";
import { bitsText } from "./capacity.ts";
import type { Suggestion } from "./suggest.ts";

/** With fewer rows held out, their loss says little. */
const FEW_ROWS = 16;

/** What may go wrong. */
export function warningsOf(
  found: Pick<Suggestion, "capacity" | "data" | "memory" | "model">,
  config: FullConfig,
): string[] {
  const { data, memory } = found;
  return [
    ...capacityWarning(found, config),
    ...(data.heldOut !== null && data.heldOut < FEW_ROWS
      ? [
          `only ${rowsText(data.heldOut)} held out, so that the loss on them is rough; data.valid may name a file`,
        ]
      : []),
    ...(memory.fits
      ? []
      : ["a step does not fit that memory: nothing is left to make smaller but the model"]),
  ];
}

const rowsText = (n: number) => (n === 1 ? "1 row is" : `${n} rows are`);

function capacityWarning(
  { capacity: { verdict, data, adapter, factor }, model }: Pick<Suggestion, "capacity" | "model">,
  { method, lora }: FullConfig,
): string[] {
  const what = method === "full" ? "the model" : "the adapter";
  const sizes = `the text says about ${bitsText(data)}, ${what} has room for about ${bitsText(adapter)} (2 a parameter)`;
  if (verdict === "ample") {
    return [
      `${sizes}: it can learn the text by heart. Look often and stop early; more text helps more than any setting`,
    ];
  }
  if (verdict === "fits") return [];
  if (method === "full") return [`${sizes}: it cannot learn all of it`];
  const r = 2 ** Math.ceil(Math.log2(Number((lora as { r?: number }).r ?? 16) * factor));
  const way =
    r <= model.width / 2
      ? `r ${r} would have it (with a lower rate), or --method full`
      : "A rank that has it would be no low rank: --method full has more";
  return [`${sizes}: it cannot learn all of it. ${way}`];
}

/** What may be added. */
export function hintsOf({ data, method }: FullConfig): string[] {
  const hints: string[] = [];
  if (!data.general) {
    hints.push("--general names text on which to see what the model forgets");
  }
  if (!data.replay) {
    hints.push(
      "--replay mixes general text in, --self-replay what the base writes itself: a quarter of the rows took 53 % off what LoRA forgot in the study, and 44 % off what full fine-tuning forgot",
    );
  }
  if (method === "full") hints.push("--method lora,full trains both, and shows them side by side");
  return hints;
}
